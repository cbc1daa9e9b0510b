"""match/rank and match/among are what embeddings say, whatever the batch, the order, the method and interruptions."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS
from mmel_cli.fields import RESIDUAL
from mmel_cli.model import Match
from mmel_cli.model.two_towers import TwoTowers
from mmel_cli.pipelines import matching
from mmel_cli.runs import EXPLAINED, RunFolder
from mmel_cli.trust import RECORD_MARKS, find_mark, of_records

NOUNS = ("dog", "cat", "grass", "red cat", "photo of a dog", "blue dog on the grass", "DOG")


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """12 images with three captions each: one that all have, one that some have, some the same but for their case."""
    place = tmp_path_factory.mktemp("match") / "in"
    shutil.copytree(photos, place)
    rows = [
        {"file_name": f"{i:02}.png", "text": text}
        for i in range(12)
        for text in ("a red dog", f"a {NOUNS[i % 7]}", f"the {NOUNS[i % 5]} on a {NOUNS[-i % 7]} {i}")
    ]
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def explain(mmel, source, out, tiny, *more):
    given = ("--model", tiny, "--device", "cpu", "--set", "heatmaps=false", "--method", "attention")
    code, _, err = mmel("explain", source, "--out", out, *given, *more)
    assert code == 0, err
    return err.replace("\n", " ")


def ranks(run):
    with load_archive(run) as archive:
        pairs = zip(archive.column("match/rank").tolist(), archive.column("match/among").tolist(), strict=True)
        names = zip(archive.column("image"), archive.column("caption"), strict=True)
        return {(str(image), str(caption)): pair for (image, caption), pair in zip(names, pairs, strict=True)}


def chosen(source, most):
    """By the words of METHOD 10, one by one."""
    images = {}
    for line in (source / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        images.setdefault(row["text"], []).append(row["file_name"])
    order = sorted(images, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    taken, homes = [], []
    for text in order:
        if min(images[text]) not in homes:
            taken.append(text)
            homes.append(min(images[text]))
    taken += [text for text in order if text not in taken]
    return {text: images[text] for text in taken[:most]}


def literal(source, model, most):
    """Ranks by transformers alone, one text and one image at a time."""
    clip = CLIPModel.from_pretrained(model).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(model), CLIPImageProcessorPil.from_pretrained(model)
    texts, images = {}, {}

    def text(caption):
        if caption not in texts:
            read = tokenizer([caption], return_tensors="pt", truncation=True, max_length=16)
            texts[caption] = clip.get_text_features(**read).pooler_output[0]
        return texts[caption]

    def image(name):
        if name not in images:
            pixels = processor(Image.open(source / name).convert("RGB"), return_tensors="pt")
            images[name] = clip.get_image_features(**pixels).pooler_output[0]
        return images[name]

    of = chosen(source, most)
    given = {}
    with torch.no_grad():
        for line in (source / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            name, caption = row["file_name"], row["text"]
            own = torch.cosine_similarity(image(name), text(caption), dim=0)
            others = [other for other in of if other != caption and name not in of[other]]
            scores = [torch.cosine_similarity(image(name), text(other), dim=0) for other in others]
            given[name, caption] = (1 + sum(bool(s >= own - 1e-6) for s in scores), 1 + len(others))
    return given


@pytest.mark.parametrize("most", [64, 9])
def test_ranks_are_those_of_embeddings(folder, tiny, tmp_path, mmel, most):
    explain(mmel, folder, tmp_path / "run", tiny, "--batch-size", 7, "--set", f"match.captions={most}")
    wanted = literal(folder, tiny, most)
    assert ranks(tmp_path / "run") == wanted
    assert len({rank for rank, _ in wanted.values()}) > 4
    assert mmel("verify", tmp_path / "run")[0] == 0
    if most == 64:  # the tokenizer knows no case: "a dog" and "a DOG" tie, and ties count against a caption
        assert wanted["00.png", "a dog"][0] > 1
        assert wanted["06.png", "a DOG"][0] > 1


def test_neither_batch_nor_order_nor_word_values_nor_what_it_is_against_decide(folder, tiny, tmp_path, mmel):
    explain(mmel, folder, tmp_path / "run", tiny, "--batch-size", 7)
    wanted = ranks(tmp_path / "run")
    explain(mmel, folder, tmp_path / "one", tiny, "--batch-size", 1, "--set", "word_values=false")
    assert ranks(tmp_path / "one") == wanted
    flow = ("--method", "flow", "--batch-size", 5, "--against", "other", "--set", "method.shifts=3")
    explain(mmel, folder, tmp_path / "flow", tiny, *flow)
    assert ranks(tmp_path / "flow") == wanted
    turned = tmp_path / "turned"
    shutil.copytree(folder, turned)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    (turned / "metadata.jsonl").write_text("\n".join(lines[::-1]))
    explain(mmel, turned, tmp_path / "back", tiny, "--batch-size", 5)
    assert ranks(tmp_path / "back") == wanted


def test_a_run_goes_on_with_its_own_captions_where_the_input_has_grown(folder, tiny, tmp_path, mmel):
    grown, out = tmp_path / "grown", tmp_path / "run"
    shutil.copytree(folder, grown)
    explain(mmel, folder, tmp_path / "whole", tiny, "--batch-size", 7)
    explain(mmel, grown, out, tiny, "--batch-size", 7, "--limit", 14)
    explain(mmel, grown, out, tiny, "--batch-size", 7)
    with load_archive(tmp_path / "whole") as one, load_archive(out) as other:
        assert one.ids == other.ids
        for name in ("match/rank", "match/among", "high_norm"):
            assert np.array_equal(one.column(name), other.column(name))
        assert one.info.identity == other.info.identity
    noted = yaml.safe_load((out / "run.yaml").read_text())["match"]
    assert {row["caption"]: row["images"] for row in noted} == {t: sorted(n) for t, n in chosen(grown, 64).items()}
    with (grown / "metadata.jsonl").open("a") as file:
        for n in range(60):
            shutil.copy(grown / "00.png", grown / f"x{n}.png")
            file.write(json.dumps({"file_name": f"x{n}.png", "text": f"a cat {n}"}) + "\n")
    explain(mmel, grown, out, tiny, "--batch-size", 7)
    more = ranks(out)
    assert {pair: more[pair] for pair in ranks(tmp_path / "whole")} == ranks(tmp_path / "whole")
    assert len(more) == 96
    assert {more[f"x{n}.png", f"a cat {n}"][1] for n in range(60)} == {len(noted) + 1}  # theirs is not among the noted
    assert yaml.safe_load((out / "run.yaml").read_text())["match"] == noted
    code, _, err = mmel(
        "explain", grown, "--out", out, "--model", tiny, "--set", "match.captions=9", "--method", "attention"
    )
    assert code == 2
    assert "match.captions was 64, is now 9" in err.replace("\n", " ")


def test_several_methods_read_the_captions_once(folder, tiny, tmp_path, mmel, monkeypatch):
    made, read = [], Match._read
    monkeypatch.setattr(Match, "_read", lambda *given, **options: made.append(1) or read(*given, **options))
    explain(mmel, folder, tmp_path / "runs", tiny, "--method", "flow,rollout,random", "--limit", 20)
    assert len(made) == 1
    explain(mmel, folder, tmp_path / "alone", tiny, "--limit", 20)
    for name in ("flow", "rollout", "random"):
        assert ranks(tmp_path / "runs" / name) == ranks(tmp_path / "alone")


@pytest.mark.parametrize(("most", "among"), [(64, {4}), (2, {2, 3})])
def test_prompts_are_ranked_among_prompts(folder, tiny, tmp_path, mmel, most, among):
    texts = ["a red dog", "a blue cat", "grass", "a photo of the dog"]
    (tmp_path / "p.txt").write_text("\n".join(texts))
    prompts = ("--prompts", tmp_path / "p.txt", "--set", f"match.captions={most}")
    explain(mmel, folder, tmp_path / "run", tiny, *prompts, "--batch-size", 5)
    given = ranks(tmp_path / "run")
    assert len(given) == 48
    assert {number for _, number in given.values()} == among
    if most == 64:
        for n in range(12):
            assert sorted(given[f"{n:02}.png", text][0] for text in texts) == [1, 2, 3, 4]


def test_merge_and_fuse_keep_them(folder, tiny, tmp_path, mmel):
    run = tmp_path / "run"
    explain(mmel, folder, run, tiny, "--method", "mmel", "--limit", 13, "--batch-size", 5)
    assert mmel("merge", run, "--out", tmp_path / "one.h5")[0] == 0
    code, _, err = mmel("fuse", run, "--weights", "untrained", "--out", tmp_path / "fused")
    assert code == 0, err
    assert "left out" not in err
    for other in (tmp_path / "one.h5", tmp_path / "fused"):
        assert ranks(other) == ranks(run)
        with load_archive(run) as one, load_archive(other) as same:
            assert one.digest("high_norm") == same.digest("high_norm")
    assert mmel("verify", tmp_path / "fused")[0] == 0
    code, _, err = mmel("eval", run, "--metrics", "stability", "--limit", 2)
    assert code == 0, err


def test_a_run_of_an_older_version_goes_on_without(folder, tiny, tmp_path, mmel):
    out = tmp_path / "run"
    without = ("--set", "match.captions=0", "--set", "high_norm=false")
    explain(mmel, folder, out, tiny, "--limit", 5, *without)
    notes = yaml.safe_load((out / "run.yaml").read_text())
    assert not {"match", "high_norm"} & set(notes)
    assert not {"match.captions", "high_norm"} & set(notes["identity"])
    for name in ("match", "high_norm"):
        del notes["config"][name]
    (out / "run.yaml").write_text(yaml.safe_dump(notes))
    assert "goes on without what marks are made from" in explain(mmel, folder, out, tiny)
    with load_archive(out) as archive:
        assert len(archive) == 36
        assert not {"match/rank", "match/among", "high_norm"} & {field.name for field in archive.info.fields}
        assert set(of_records(archive).counts()) <= {mark.name for mark in RECORD_MARKS}
    assert mmel("verify", out)[0] == 0
    explain(mmel, folder, tmp_path / "off", tiny, *without, "--limit", 5)
    code, _, err = mmel("explain", folder, "--out", tmp_path / "off", "--model", tiny, "--method", "attention")
    assert code == 2
    assert "match.captions was not there, is now 64" in err.replace("\n", " ")


def test_captions_that_stand_too_far_back_are_none(folder, tiny, tmp_path, mmel, monkeypatch):
    monkeypatch.setattr(matching, "FIRST", 2)
    (tmp_path / "in").mkdir()
    shutil.copy(folder / "00.png", tmp_path / "in")
    rows = [{"file_name": "gone.png", "text": "a"}] * 2 + [{"file_name": "00.png", "text": "a dog"}]
    (tmp_path / "in/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = mmel("explain", tmp_path / "in", "--out", tmp_path / "run", "--model", tiny, "--method", "attention")
    assert code == 3, err
    assert ranks(tmp_path / "run") == {("00.png", "a dog"): (1, 1)}


@pytest.mark.parametrize("method", sorted({*METHODS} - {"mask", "rise", "region-search", "fixlip"}))
def test_every_method_has_them(folder, tiny, tmp_path, mmel, method):
    explain(mmel, folder, tmp_path / "run", tiny, "--method", method, "--limit", 4)
    with load_archive(tmp_path / "run") as archive:
        assert archive.column("high_norm").shape == (4, 4, 4)
        assert archive.column("match/among").min() > 1
        own = {field.name for field in archive.info.fields}
        assert (RESIDUAL.name in own) == (method == "exclip")


def test_long_patches_are_those_whose_token_is_long(tmp_path, mmel):
    assert mmel("scenes", tmp_path / "in", "--count", 5, "--seed", 3)[0] == 0
    explain(mmel, tmp_path / "in", tmp_path / "run", "builtin", "--batch-size", 7)
    explain(mmel, tmp_path / "in", tmp_path / "views", "builtin", "--method", "flow", "--set", "method.shifts=2")
    from mmel_cli.model.adapter import BUILTIN_FOLDER

    clip, processor = (
        CLIPModel.from_pretrained(BUILTIN_FOLDER).eval(),
        CLIPImageProcessorPil.from_pretrained(BUILTIN_FOLDER),
    )
    total = 0
    with load_archive(tmp_path / "run") as archive, load_archive(tmp_path / "views") as views, torch.no_grad():
        for record, view in zip(archive, views, strict=True):
            pixels = processor(Image.open(tmp_path / "in" / record.image).convert("RGB"), return_tensors="pt")
            states = clip.vision_model(**pixels, output_hidden_states=True).hidden_states
            lengths = states[clip.config.vision_config.num_hidden_layers - 1][0, 1:].norm(dim=-1).numpy()
            wanted = (lengths > 2 * np.median(lengths)).reshape(record.map.shape)
            assert np.array_equal(record.fields["high_norm"], wanted)
            assert np.array_equal(view.fields["high_norm"], np.kron(wanted, np.ones((2, 2), bool)))
            total += wanted.sum()
    assert total > 20


@pytest.mark.slow
def test_summary_and_terminal_count_what_records_say(tmp_path, mmel):
    """Captions of other images: most of them are marked, of their own almost none (METHOD 10)."""
    own = tmp_path / "own"
    assert mmel("scenes", own, "--count", 8, "--seed", 4)[0] == 0
    shutil.copytree(own, tmp_path / "other")
    rows = [json.loads(line) for line in (own / "metadata.jsonl").read_text().splitlines()]
    moved = [{"file_name": row["file_name"], "text": rows[n - 9]["text"]} for n, row in enumerate(rows)]
    (tmp_path / "other/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved))
    (tmp_path / "other/scenes.json").unlink()
    shutil.rmtree(tmp_path / "other/masks")
    parts = {}
    for name in ("own", "other"):
        given = ("--model", "builtin", "--method", "rollout", "--set", "heatmaps=false")
        code, out, err = mmel("explain", tmp_path / name, "--out", tmp_path / f"run-{name}", *given)
        assert code == 0, err
        summary = json.loads((tmp_path / f"run-{name}/summary.json").read_text())
        with load_archive(tmp_path / f"run-{name}") as archive:
            counts = of_records(archive).counts()
            assert summary["marks"] == counts
            parts[name] = counts.get("prefers-others", 0) / len(archive)
        says = out.replace("\n", " ")
        for mark in RECORD_MARKS:
            line = f"{counts.get(mark.name)} of {summary['done']} records: {mark.badge}"
            assert (line in says) == (mark.name in counts)
        assert summary["run_marks"] == ["caption-blind", *(["builtin"] if name == "other" else [])]
        for mark in summary["run_marks"]:
            assert f"Warning: {find_mark(mark).says}" in err.replace("\n", " ")
    assert parts["own"] < 0.1
    assert parts["other"] > 0.7


def test_a_caption_that_exhausts_the_memory_is_compared_with_none(folder, tiny, tmp_path, mmel, monkeypatch):
    real = TwoTowers.embed_texts

    def small(self, captions):
        if any("grass" in token for tokens in captions.tokens for token in tokens):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, captions)

    explain(mmel, folder, tmp_path / "whole", tiny, "--limit", 8)
    monkeypatch.setattr(TwoTowers, "embed_texts", small)
    given = ("--model", tiny, "--method", "attention", "--limit", 8)
    code, _, err = mmel("explain", folder, "--out", tmp_path / "run", *given)
    assert code == 3, err
    whole, less = ranks(tmp_path / "whole"), ranks(tmp_path / "run")
    assert set(less) == {pair for pair in whole if "grass" not in pair[1]}
    for (image, caption), (rank, among) in less.items():
        gone = [text for text, images in chosen(folder, 64).items() if "grass" in text and image not in images]
        assert among == whole[image, caption][1] - len(gone)
        assert rank <= whole[image, caption][0]


def test_captions_of_any_characters_come_back_from_run_yaml(tmp_path):
    odd = (
        "a\x85b",
        "\x85",
        " a: b # c ",
        "\u2028\u2029",
        "\ufeffx",
        "'\"\\",
        "- a",
        "yes",
        "null",
        "1e3",
        "\U0001f600\x7f",
        "\r\n\t",
    )
    texts = matching.MatchTexts(odd, (frozenset({"b\x85.png", "é.png"}), *[frozenset()] * (len(odd) - 1)))
    with RunFolder(tmp_path / "run", EXPLAINED) as folder:
        folder.note({"match": texts.plain()})
        assert matching.MatchTexts.noted(folder.notes()) == texts
    for damaged in (
        {},
        {"match": "a"},
        {"match": [1]},
        {"match": [{"caption": 1, "images": []}]},
        {"match": [{"caption": "a"}]},
    ):
        assert matching.MatchTexts.noted(damaged) is None
