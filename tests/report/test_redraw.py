"""`mmel report --heatmaps`: pictures that are drawn later are those that `mmel explain` draws."""

import json
import shutil

import pytest
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.render import picture_name
from mmel_cli.runs import RunFolder

LATER = ("--set", "heatmaps=false")


@pytest.fixture
def explained(photos, tiny, tmp_path, mmel):
    """Explains a copy of the photos into a folder; the folder."""

    def explain(out, *arguments):
        if not (tmp_path / "in").exists():
            shutil.copytree(photos, tmp_path / "in")
        given = ("--out", tmp_path / out, "--model", tiny, "--batch-size", 5, "--set", "archive.shard_size=7")
        code, _, err = mmel("explain", tmp_path / "in", *given, *arguments)
        assert code == 0, err
        return tmp_path / out

    return explain


def files(run):
    """Every picture, photo, thumbnail and the note, by its name in the run."""
    kinds = ("heatmaps", "photos", "thumbnails")
    return {str(p.relative_to(run)): p.read_bytes() for k in kinds for p in (run / k).rglob("*") if p.is_file()}


@pytest.mark.parametrize("look", [(), ("--words", "--set", "heatmap.format=png"), ("--set", "heatmap.max_side=200")])
def test_pictures_drawn_later_are_those_of_explain_to_the_byte(explained, mmel, look):
    look = (*look, "--method", "flow", "--limit", 7)
    at_once, later = explained("at-once", *look), explained("later", *look, *LATER)
    archive = {path.name: path.read_bytes() for path in (later / "archive").iterdir()}
    assert files(later) == {}
    code, out, err = mmel("report", later, "--heatmaps", "--json")
    assert code == 0, err
    assert json.loads(out)["heatmaps"] == {"drawn": 7, "failed": 0, "named": []}
    assert files(later) == files(at_once)
    assert len(files(later)) == 7 + 2 * 4 + 1
    assert {path.name: path.read_bytes() for path in (later / "archive").iterdir()} == archive
    again = explained("later", *look)  # explain takes them for its own, too
    assert files(again) == files(at_once)


def test_what_is_missing_or_of_another_look_is_drawn_and_nothing_else(explained, tmp_path, mmel):
    look = ("--method", "flow", "--limit", 7)
    run = explained("run", *look)
    wanted = files(run)
    gone = [next(name for name in wanted if name.startswith(kind)) for kind in ("photos/", "heatmaps/0", "thumbnails/")]
    for name in gone:
        (run / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in (run / "heatmaps").glob("*.jpg")}
    (tmp_path / "in").rename(tmp_path / "moved")
    code, _, err = mmel("report", run, "--heatmaps")
    assert code == 2
    assert "the input cannot be read" in err
    assert "give --data" in err
    code, out, err = mmel("report", run, "--heatmaps", "--data", tmp_path / "moved", "--json")
    assert code == 0, err
    assert 1 <= json.loads(out)["heatmaps"]["drawn"] <= 6
    assert files(run) == wanted
    assert any(path.stat().st_mtime_ns == when for path, when in before.items())
    code, out, _ = mmel("report", run, "--heatmaps", "--json")  # nothing to draw: no input is needed
    assert (code, json.loads(out)["heatmaps"]["drawn"]) == (0, 0)
    (tmp_path / "moved").rename(tmp_path / "in")
    other = ("--set", "heatmap.colormap=viridis", "--set", "heatmap.format=png")
    explained("run", *look, *other, *LATER)
    assert mmel("report", run, "--heatmaps")[0] == 0
    assert files(run) == files(explained("other", *look, *other))


def test_a_record_whose_image_is_gone_is_named_and_costs_only_itself(explained, photos, tmp_path, mmel):
    look = ("--method", "flow", "--limit", 8)
    wanted = files(explained("at-once", *look))
    run = explained("run", *look, *LATER)
    (tmp_path / "in/00.png").write_bytes(b"no image")
    Image.new("RGB", (20, 20)).save(tmp_path / "in/02.png")
    code, out, err = mmel("report", run, "--heatmaps", "--json")
    assert code == 3
    drawn = json.loads(out)["heatmaps"]
    assert (drawn["drawn"], drawn["failed"]) == (4, 4)
    assert [one["id"] for one in drawn["named"]] == ["00.png#0", "00.png#1", "02.png#0", "02.png#1"]
    assert "No picture of 02.png#0: is 20x20 now" in err
    missing = {name for name in wanted if "/00.png" in name or "/02.png" in name}
    assert files(run) == {name: content for name, content in wanted.items() if name not in missing}
    for image in ("00.png", "02.png"):
        shutil.copy(photos / image, tmp_path / "in" / image)
    code, out, err = mmel("report", run, "--heatmaps", "--json")
    assert (code, json.loads(out)["heatmaps"]) == (0, {"drawn": 4, "failed": 0, "named": []}), err
    assert files(run) == wanted


def test_old_pictures_of_a_record_that_cannot_be_drawn_stay_and_the_note_does_not_lie(explained, tmp_path, mmel):
    look = ("--method", "flow", "--limit", 6)
    run = explained("run", *look)
    before = files(run)
    explained("run", *look, "--set", "heatmap.format=png", *LATER)
    (tmp_path / "in/01.png").write_bytes(b"no image")
    assert mmel("report", run, "--heatmaps")[0] == 3
    assert not (run / "heatmaps/drawn.json").exists()
    with load_archive(run) as archive:
        for record in archive:
            old, new = (f"heatmaps/{picture_name(record.id, kind)}" for kind in ("jpeg", "png"))
            assert (old in files(run), new in files(run)) == (
                (True, False) if record.image == "01.png" else (False, True)
            )
            assert record.image != "01.png" or files(run)[old] == before[old]


def test_a_call_after_a_kill_draws_what_is_missing(explained, mmel, monkeypatch):
    look = ("--method", "flow", "--limit", 24)
    run = explained("run", *look, *LATER)

    def killed(self, name, content):
        if "complete" in content:
            write(self, name, content)
            return
        raise KeyboardInterrupt

    write = RunFolder.write_json
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_json", killed)
        assert mmel("report", run, "--heatmaps")[0] == 130
    drawn = sorted((run / "heatmaps").glob("*.jpg"))
    for path in drawn[5:]:
        path.unlink()
    code, out, err = mmel("report", run, "--heatmaps", "--json")
    assert code == 0, err
    assert json.loads(out)["heatmaps"]["drawn"] == len(drawn) - 5
    assert files(run) == files(explained("at-once", *look))


def test_an_archive_file_has_no_place_for_pictures(explained, tmp_path, mmel):
    run = explained("run", "--method", "flow", "--limit", 3, *LATER)
    assert mmel("merge", run, "--out", tmp_path / "all.h5")[0] == 0
    code, _, err = mmel("report", tmp_path / "all.h5", "--out", tmp_path / "out", "--heatmaps")
    assert code == 2
    assert "is no run folder, so it has no place for pictures" in err
