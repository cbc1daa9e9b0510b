"""Errors in one line that says what to do, and as one JSON document under --json."""

import json

import pytest

from mmel_cli.config import load_config
from mmel_cli.errors import UsageError
from mmel_cli.names import count, hint, match


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["explain", "{tmp}/nope", "--out", "{tmp}/o"], 2, "usage"),
        (["explain"], 2, "usage"),
        (["explain", "x", "--nope"], 2, "usage"),
        (["explain", "{photos}", "--out", "{tmp}/o", "--method", "flwo"], 2, "usage"),
        (["explain", "{photos}", "--out", "{tmp}/o", "--model", "{tmp}"], 1, "model"),
        (["train-weights", "{photos}", "--out", "{tmp}/w.safetensors", "--model", "{tiny}"], 2, "usage"),
        (["eval", "{tmp}/nope"], 2, "usage"),
        (["fuse", "{tmp}/nope", "--weights", "auto", "--out", "{tmp}/o"], 1, "archive"),
        (["verify", "{tmp}/nope"], 1, "archive"),
        (["merge", "{tmp}/nope", "--out", "{tmp}/a.h5"], 1, "archive"),
        (["scenes", "{tmp}/s", "--split", "tset"], 2, "usage"),
        (["merge", "{tmp}", "--out", "/proc/nope/a.h5"], 1, "archive"),
    ],
)
def test_errors_are_one_line_and_one_document(arguments, code, kind, photos, tiny, tmp_path, mmel):
    given = [word.format(tmp=tmp_path, photos=photos, tiny=tiny) for word in arguments]
    found, out, err = mmel(*given, "--json")
    assert found == code, err
    document = json.loads(out)
    assert document["error"]["exit_code"] == code
    assert document["error"]["kind"] == kind
    assert err.rstrip().splitlines()[-1] == f"Error: {document['error']['message']}"
    plain, out, err = mmel(*given)
    assert (plain, out) == (code, "")
    assert err.count("Error: ") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["eval", "{tmp}/nope"], "nope: does not exist; give a run folder or an archive file"),
        (["verify", "{tmp}/nope"], "nope: does not exist; give a run folder or an archive file"),
        (["merge", "{tmp}/nope", "--out", "{tmp}/a.h5"], "nope: does not exist"),
        (["fuse", "{tmp}/nope", "--weights", "auto", "--out", "{tmp}/o"], "nope: does not exist"),
        (["explain", "{tmp}/nope", "--out", "{tmp}/o"], "nope: does not exist"),
        (["train-weights", "{tmp}/nope", "--out", "{tmp}/w.safetensors"], "nope: does not exist"),
        (["config", "defalt"], "did you mean default?"),
        (["explian"], "explain"),
        (["scenes", "{tmp}/s", "--split", "tset"], "did you mean test?"),
        (["explain", "{photos}", "--out", "{tmp}/o", "--method", "gradeclip"], "did you mean grad-eclip?"),
        (["eval", "{photos}", "--metrics", "pixle-ap"], "did you mean pixel-ap?"),
    ],
)
def test_what_does_not_exist_is_said_and_the_nearest_named(arguments, says, photos, tmp_path, mmel):
    code, _, err = mmel(*(word.format(tmp=tmp_path, photos=photos) for word in arguments))
    assert code in (1, 2)
    assert says in err


def test_names_count_in_any_case():
    assert load_config(None, ["method.name=GRAD-eclip"]).method.name == "grad-eclip"
    assert match("Flow", ["mmel", "flow"]) == "flow"
    assert match("x", ["y"]) is None
    assert hint("zzzzzz", ["flow"]) == ""
    with pytest.raises(UsageError, match="did you mean rise"):
        load_config(None, ["method.name=riese"])


def test_numbers_agree_with_what_they_count():
    assert [count(n, "record") for n in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
    assert count(2, "entry", "entries") == "2 entries"


def test_training_without_truth_stops_before_anything_is_explained(photos, tiny, tmp_path, mmel):
    code, _, err = mmel("train-weights", photos, "--out", tmp_path / "w.safetensors", "--model", tiny)
    assert code == 2
    assert "--objective faithfulness" in err
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_can_be_printed_saved_and_used(photos, tiny, tmp_path, mmel):
    assert mmel("config")[1].split() == sorted(mmel("config")[1].split())
    for name in mmel("config")[1].split():
        text = mmel("config", name)[1]
        assert text.count("\n") > 2
    (tmp_path / "my.yaml").write_text(mmel("config", "default")[1])
    command = ["explain", photos, "--out", tmp_path / "run", "--config", tmp_path / "my.yaml", "--model", tiny]
    assert mmel(*command, "--limit", 2)[0] == 0
