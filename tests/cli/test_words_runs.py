"""`mmel explain --words` as a run: going on, prompts, other settings, merged and fused."""

import json

import numpy as np

from mmel_cli import load_archive
from mmel_cli.data.scenes.folder import write_scenes

WORDS = ("--words", "--set", "words.texts=20", "--set", "heatmaps=false", "--device", "cpu")


def explain(mmel, source, out, tiny, *more):
    return mmel("explain", source, "--out", out, "--model", tiny, "--batch-size", 5, *WORDS, *more)


def fields_of(run):
    with load_archive(run) as archive:
        return {record.id: {n: v for n, v in record.fields.items() if "/" in n} for record in archive}


def assert_equal(one, other):
    assert list(one) == list(other)
    for name, fields in one.items():
        assert set(fields) == set(other[name])
        for field, values in fields.items():
            np.testing.assert_array_equal(values, other[name][field], err_msg=f"{name} {field}")


def test_a_run_that_goes_on_has_what_an_uninterrupted_one_has(photos, tiny, tmp_path, mmel):
    assert explain(mmel, photos, tmp_path / "whole", tiny)[0] == 0
    assert explain(mmel, photos, tmp_path / "parts", tiny, "--limit", 10)[0] == 0  # two whole batches
    code, _, err = explain(mmel, photos, tmp_path / "parts", tiny)
    assert (code, "Going on: 10 records done" in err) == (0, True), err
    assert_equal(fields_of(tmp_path / "whole"), fields_of(tmp_path / "parts"))
    code, _, err = explain(mmel, photos, tmp_path / "parts", tiny, "--set", "words.phrase=alone")
    assert code == 2
    assert 'words.phrase was not there, is now "alone"' in " ".join(err.split())
    assert mmel("verify", tmp_path / "parts")[0] == 0
    assert mmel("merge", tmp_path / "whole", "--out", tmp_path / "one.h5")[0] == 0
    assert_equal(fields_of(tmp_path / "whole"), fields_of(tmp_path / "one.h5"))


def test_prompts_have_words_and_phrases_of_their_own(photos, tiny, tmp_path, mmel):
    (tmp_path / "prompts.txt").write_text("a red dog\na blue cat1 and a red dog\n")
    prompts = ("--prompts", tmp_path / "prompts.txt", "--limit", 7)
    assert explain(mmel, photos, tmp_path / "run", tiny, *prompts)[0] == 0
    with load_archive(tmp_path / "run") as archive:
        for record in archive:
            phrases = ["a red dog"] if record.id.endswith("#0") else ["a blue cat1", "a red dog"]
            assert [phrase.text for phrase in record.phrases] == phrases
            assert record.fields["words/map"].shape[0] == len(record.caption.split())


def test_fusing_again_leaves_out_phrases_and_says_so(photos, tiny, tmp_path, mmel):
    assert explain(mmel, photos, tmp_path / "run", tiny, "--limit", 6)[0] == 0
    code, out, err = mmel(
        "fuse", tmp_path / "run", "--weights", "untrained", "--out", tmp_path / "fused", "--no-heatmaps", "--json"
    )
    assert code == 0, err
    assert any("phrases are left out" in warning for warning in json.loads(out)["warnings"])
    before, after = fields_of(tmp_path / "run"), fields_of(tmp_path / "fused")
    for name, fields in after.items():
        assert not any(field.startswith("phrases/") for field in fields)
        np.testing.assert_array_equal(fields["words/map"], before[name]["words/map"])
    assert mmel("verify", tmp_path / "fused")[0] == 0


def test_what_is_not_in_the_picture_has_a_smaller_share_than_what_is(tmp_path, mmel):
    """The builtin model on its scenes: the first phrase of a pair, and one whose colour and shape no caption names."""
    write_scenes(tmp_path / "in", 12, 21)
    rows = [json.loads(line) for line in (tmp_path / "in/metadata.jsonl").read_text().splitlines()]
    pairs = [row for row in rows if row["kind"] == "pair"]
    said = {row["file_name"]: " ".join(r["text"] for r in rows if r["file_name"] == row["file_name"]) for row in pairs}
    names = [phrase["text"] for row in pairs for phrase in row["phrases"]]
    captions = []
    for row in pairs:
        text = said[row["file_name"]]
        absent = [name for name in names if not any(word in text for word in name.split()[1:])]
        captions += [{"file_name": row["file_name"], "text": f"{row['phrases'][0]['text']} and {absent[0]}"}] * bool(
            absent
        )
    (tmp_path / "in/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in captions))
    assert mmel("explain", tmp_path / "in", "--out", tmp_path / "run", "--model", "builtin", *WORDS)[0] in (0, 3)
    with load_archive(tmp_path / "run") as archive:
        shares = np.array([record.fields["phrases/share"] for record in archive])
    assert len(shares) >= 4
    assert (shares[:, 0] > shares[:, 1]).all()
    assert (shares[:, 1] < 0.01).all()
