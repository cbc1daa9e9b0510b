"""Pictures of a run with --words: colours of phrases, or small maps when asked for; and shares in the report."""

import numpy as np
import pytest
from PIL import Image
from report_data import Report, single

from mmel_cli import load_archive
from mmel_cli.render.parts import PALETTE


@pytest.fixture
def words_run(photos, tiny, tmp_path, mmel):
    """Explain three records, with these further options."""

    def run(*options):
        code, out, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, *FEW, *options)
        return code, out, err

    run.folder = tmp_path / "run"
    return run


FEW = ("--limit", 3, "--batch-size", 2, "--set", "heatmap.format=png")


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
        shares = {record.id: record.fields["phrases/share"][0] for record in archive}
    assert len(coloured) == 3
    assert all(has(picture, PALETTE[0]) for picture in coloured.values())
    assert all(max(Image.open(path).size) == 320 for path in (folder / "thumbnails").rglob("*.jpg"))
    report = Report(folder)
    for n, (record_id, share) in enumerate(shares.items()):
        assert report.column("id")[n] == record_id
        ((start, end, shown),) = report.maps(0, n)["phrases"]
        assert report.column("caption")[n][start:end] == phrases[record_id]
        assert single(shown) == share
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


def test_without_pictures_nothing_is_refused_and_the_report_has_shares(words_run):
    code, _, err = words_run("--words", "--set", "heatmaps=false", "--set", "words.phrase=alone")
    assert code == 0, err
    report = Report(words_run.folder)
    assert [len(report.maps(0, n)["phrases"]) for n in range(3)] == [1, 1, 1]
    assert report.head["runs"][0]["share_says"] == "what the phrase alone adds to the cosine of no text"
    assert report.head["photos"] is False


def test_a_run_without_words_looks_as_before(words_run):
    code, _, err = words_run()
    assert code == 0, err
    report = Report(words_run.folder)
    assert report.head["runs"][0]["has"] == {
        "words": True,
        "regions": False,
        "phrases": False,
        "match": True,
        "against": False,
        "layers": True,
    }
    assert report.maps(0, 0)["phrases"] == []
    assert report.details(0, 0)["words"] is None
    assert all(max(Image.open(path).size) == 320 for path in (words_run.folder / "thumbnails").rglob("*.jpg"))
