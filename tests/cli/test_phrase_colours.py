"""Pictures of a run with --words: colours of phrases by default, small maps when asked for, and shares in cards."""

import html
import re

import numpy as np
import pytest
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.render.parts import PALETTE

COLOUR = re.escape("rgb(238, 51, 119)")


@pytest.fixture
def words_run(photos, tiny, tmp_path, mmel):
    """Explain three records, with these further options."""

    def run(*options):
        code, out, err = mmel(
            "explain", photos, "--out", tmp_path / "run", "--model", tiny, "--limit", 3, "--batch-size", 2, *options
        )
        return code, out, err

    run.folder = tmp_path / "run"
    return run


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "heatmaps").rglob("*.png"))}


def has(picture, colour):
    return bool((picture == np.uint8(colour)).all(-1).any())


def test_a_run_with_words_shows_colours_of_phrases_and_is_redrawn_from_the_archive(words_run):
    code, _, err = words_run("--words")
    assert code == 0, err
    folder = words_run.folder
    coloured = pictures(folder)
    with load_archive(folder) as archive:
        assert all(len(record.phrases) == 1 for record in archive)
        phrases = {record.id: record.phrases[0].text for record in archive}
        shares = {record.id: f"{record.fields['phrases/share'][0]:+.3f}" for record in archive}
    assert len(coloured) == 3
    assert all(has(picture, PALETTE[0]) for picture in coloured.values())
    assert all(max(Image.open(path).size) == 512 for path in (folder / "thumbnails").rglob("*.jpg"))
    page = html.unescape((folder / "index.html").read_text())
    for record_id, share in shares.items():
        card = next(card for card in page.split("<figure>")[1:] if record_id in card)
        text, shown = re.search(rf'style="border-color:{COLOUR}"><bdi>(.*?)</bdi></span>(\S+?)<', card).groups()
        assert (text, shown) == (phrases[record_id], share)
    before = {path: path.read_bytes() for path in (folder / "archive").iterdir()}
    code, _, err = words_run("--words", "--set", "heatmap.panels=words")
    assert code == 0, err
    assert "Drawing the pictures of 3 finished records anew" in err
    small = pictures(folder)
    assert small.keys() == coloured.keys()
    assert not any(has(picture, PALETTE[0]) for picture in small.values())
    assert all(picture.shape[1] == coloured[name].shape[1] for name, picture in small.items())
    assert {path: path.read_bytes() for path in (folder / "archive").iterdir()} == before
    code, _, err = words_run("--words", "--set", "heatmap.panels=overlay")
    assert code == 0, err
    alone = pictures(folder)
    assert all(picture.shape[1] < small[name].shape[1] / 2 for name, picture in alone.items())


@pytest.mark.parametrize("panels", ["words", "phrases"])
def test_panels_of_words_are_refused_in_one_line_without_words(words_run, panels):
    code, _, err = words_run("--set", f"heatmap.panels={panels}")
    assert code == 2
    assert " ".join(err.split()) == (
        f"Error: heatmap.panels {panels} shows where phrases and words come from: "
        "add --words, or take auto, overlay or side-by-side"
    )
    assert not words_run.folder.exists()


def test_without_pictures_nothing_is_refused_and_the_cards_have_shares(words_run):
    code, _, err = words_run("--words", "--set", "heatmaps=false", "--set", "words.phrase=alone")
    assert code == 0, err
    page = (words_run.folder / "index.html").read_text()
    assert page.count('<span class="phrase"') == 3
    assert "each with its share of the cosine: what the phrase alone adds to the cosine of no text." in page
    assert "In the picture" not in page


def test_a_run_without_words_looks_as_before(words_run):
    code, _, err = words_run()
    assert code == 0, err
    page = (words_run.folder / "index.html").read_text()
    assert 'class="phrase"' not in page
    assert 'id="phrases"' not in page
    assert all(max(Image.open(path).size) <= 256 for path in (words_run.folder / "thumbnails").rglob("*.jpg"))
