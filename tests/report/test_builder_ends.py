"""Where a report goes, what is refused, and what an interruption or a longer report leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote_to_bytes

from hostile_runs import info_of, photos, write
from report_data import Report, arguments

from mmel_cli.archive import load_archive
from mmel_cli.render import photo_name
from mmel_cli.report import build as build_module


def test_runs_without_a_record_in_common_and_places_that_do_not_fit_are_refused_in_a_line(tmp_path, mmel):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, 3)
    write(two, 3, captions=["other"])
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/notes.txt").write_text("mine")
    merged = tmp_path / "all.h5"
    assert mmel("merge", one, "--out", merged)[0] == 0
    (tmp_path / "there.html").write_text("mine")
    for arguments_, code, told in (
        ((one, two, "--out", tmp_path / "both"), 2, "have no record in common"),
        ((one, two), 2, "--out is missing: the report of several runs"),
        ((one, one, "--out", tmp_path / "both"), 2, "is given twice"),
        ((merged,), 2, "--out is missing"),
        ((one / "archive",), 2, "has no run.yaml"),
        ((tmp_path / "none",), 1, "does not exist"),
        ((one, "--out", tmp_path / "strange"), 2, "holds no mmel report"),
        ((one, "--out", tmp_path / "x", "--self-contained", tmp_path / "x.html"), 2, "give one of them"),
        ((one, "--self-contained", tmp_path / "there.html"), 2, "exists; give a new file"),
        ((one, "--self-contained", tmp_path / "none/x.html"), 2, "is no folder"),
    ):
        got, _, err = mmel("report", *arguments_)
        assert (got, told in err.replace("\n", " ")) == (code, True), (arguments_, err)
        assert err.count("Error:") == 1
    assert (tmp_path / "strange/notes.txt").read_text() == (tmp_path / "there.html").read_text() == "mine"
    assert not (tmp_path / "both").exists()


def test_a_merged_file_has_maps_alone_and_says_so(tmp_path, mmel):
    run, merged = tmp_path / "run", tmp_path / "all.h5"
    write(run, 9)
    assert mmel("merge", run, "--out", merged)[0] == 0
    code, _, err = mmel("report", merged, "--out", tmp_path / "out")
    assert code == 0
    assert "No photos: " in err
    assert "give --data" in err
    report = Report(tmp_path / "out")
    assert report.head["photos"] is False
    assert report.head["runs"][0]["links"]["run"] is None
    with load_archive(run) as archive:
        for n, record in enumerate(archive):
            assert report.maps(0, n)["map"].tobytes() == record.map.tobytes()


def test_what_a_longer_report_left_goes_and_strangers_stay(tmp_path, mmel):
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    write(one, 80)
    write(two, 7)
    photos(out, "old.png")
    (out / "photos/mine.jpg").write_text("mine")
    (out / "report.yaml").write_text("format: mmel-report\nruns: []\n")
    (out / "report/data").mkdir(parents=True)
    (out / "report/data/mine.txt").write_text("mine")
    assert mmel("report", one, "--out", out)[0] == 0
    assert "maps-0-00001.js" in Report(out).files
    assert not (out / "photos" / photo_name("old.png")).exists()  # of other runs
    assert mmel("report", two, "--out", out)[0] == 0
    left = Report(out).files
    assert left == ["details-0-00000.js", "head.js", "maps-0-00000.js", "mine.txt", "records-00000.js"]
    assert (out / "photos/mine.jpg").read_text() == "mine"
    for n in (2, 3):
        (one / f"page-0000{n}.html").write_text("of an older mmel")
    assert mmel("report", one)[0] == 0
    assert [path.name for path in one.glob("*.html")] == ["index.html"]


def test_a_folder_whose_name_is_no_text_is_linked_by_its_bytes(tmp_path, mmel):
    one, two = tmp_path / os.fsdecode(b"one\xff"), tmp_path / "two\u2028 <b>"
    made = write(one, 3)
    write(two, 3)
    photos(one, made[0].image)
    code, _, err = mmel("report", one, two, "--out", tmp_path / "both")
    assert code == 0, err
    report = Report(tmp_path / "both")
    link = report.head["runs"][0]["links"]["archive"][0]
    assert link == "../one%FF/archive/part-00000.h5"
    assert (tmp_path / "both" / os.fsdecode(unquote_to_bytes(report.column("photo")[0]))).is_file()
    assert "two\u2028 &lt;b&gt; compared" in (tmp_path / "both/index.html").read_text("utf-8")


def test_an_archive_of_the_first_version_has_a_report(tmp_path, mmel):
    old = Path(__file__).parents[1] / "archive/assets/version1.h5"
    code, _, err = mmel("report", old, "--out", tmp_path / "out")
    assert code == 0, err
    report = Report(tmp_path / "out")
    with load_archive(old) as archive:
        assert report.column("id") == archive.ids
        for n, record in enumerate(archive):
            assert report.maps(0, n)["map"].tobytes() == record.map.tobytes()
            assert report.maps(0, n)["words"] == []
    assert report.head["runs"][0]["has"]["words"] is False


def test_one_file_holds_everything_and_its_policy_knows_every_script(tmp_path, mmel):
    run = tmp_path / "run"
    made = write(run, 10)
    photos(run, made[2].image, "orange")
    file = tmp_path / "one.html"
    code, _, err = mmel("report", run, "--self-contained", file)
    assert code == 0, err
    assert not (run / "index.html").exists()
    page = file.read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    scripts, styles = (
        re.findall(r"<script>(.*?)</script>", page, re.DOTALL),
        re.findall(r"<style>(.*?)</style>", page, re.DOTALL),
    )
    assert page.count("<script") == len(scripts) > 3
    assert "default-src 'none'" in policy
    for text in (*scripts, *styles):
        digest = sha256(text.encode()).digest()
        known = re.findall(r"'sha256-([^']+)'", policy)
        assert digest in [b64decode(one) for one in known]
    assert not re.search(r'(?:src|href)="(?!data:|#)[^"]', page.split("<script>")[0])
    data = [text for text in scripts if text.startswith(("mmel.", "(function(p,c,b)"))]
    assert [name for name, _ in map(arguments, (t for t in data if t.startswith("mmel.")))] == [
        *("head", "maps", "details", "details")
    ]
    head = arguments(data[0])[1][0]
    assert head["self_contained"] is True
    records = next(text for text in data if text.startswith("(function"))
    assert records.count("data:image/jpeg;base64,") == 1  # two captions of one image
    if shutil.which("node"):
        program = (
            "const seen=[];const mmel={records:(k,c)=>seen.push(c)};" + records + "console.log(JSON.stringify(seen))"
        )
        columns = json.loads(subprocess.run(["node", "-e", program], check=True, capture_output=True).stdout)[0]
        assert [bool(photo) for photo in columns["photo"]] == [n in (2, 3) for n in range(10)]
        assert columns["photo"][2] == columns["photo"][3] == columns["thumb"][2]


def test_one_file_of_too_many_records_is_refused(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 8)
    monkeypatch.setattr("mmel_cli.report.build.MOST_IN_ONE_FILE", 7)
    code, _, err = mmel("report", run, "--self-contained", tmp_path / "one.html")
    assert code == 2
    assert "8 records are too many for one page, which takes 7" in err.replace("\n", " ")
    assert not (tmp_path / "one.html").exists()


def test_neither_torch_nor_a_model_is_loaded(tmp_path):
    run = tmp_path / "run"
    write(run, 5)
    code = (
        "import sys; sys.argv = ['mmel', 'report', sys.argv[1]]\n"
        "from mmel_cli.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'h5py' in sys.modules\n"
        "heavy = {'torch', 'transformers', 'scipy'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_archive_that_is_damaged_is_named(tmp_path, mmel):
    run = tmp_path / "run"
    write(run, 40)
    shard = run / "archive/part-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-500])
    code, _, err = mmel("report", run)
    assert code == 1
    assert "part-00001.h5" in err
    assert not (run / "index.html").exists()


def test_settings_of_a_stranger_do_not_stop_the_report(tmp_path, mmel):
    run = tmp_path / "run"
    config = {"heatmap": {"colormap": "no such", "percentile": "x"}, "words": "x", "image": [], "method": 3}
    write(run, 3, info_of(config=config, described={"layer_weights": "1 nan"}))
    assert mmel("report", run)[0] == 0
    head = Report(run).head
    assert head["colormap"]["name"] == "inferno"
    assert head["runs"][0]["layer_weights"] is None


def test_an_interruption_ends_it_at_once_and_the_same_command_mends_it(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 70)

    def interrupt(name):
        if name == "details-0-00004.js":
            os.kill(os.getpid(), signal.SIGINT)

    real = build_module.write_text
    monkeypatch.setattr(build_module, "write_text", lambda path, text: (interrupt(path.name), real(path, text)))
    assert mmel("report", run)[0] == 130
    assert not (run / "index.html").exists()
    monkeypatch.undo()
    done = subprocess.run([sys.executable, "-m", "mmel_cli", "report", str(run)], capture_output=True, check=False)
    assert done.returncode == 0
    assert len(Report(run).files) == 1 + 1 + 2 + 9


def test_a_rebuild_that_is_broken_off_leaves_no_page_and_no_head(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 70)
    assert mmel("report", run)[0] == 0
    first, real, written = Report(run).head["build"], build_module.write_text, []

    def fill_the_disk(path, text):
        if path.name == "maps-0-00001.js":
            raise OSError(28, "No space left on device")
        written.append(path.name)
        real(path, text)

    monkeypatch.setattr(build_module, "write_text", fill_the_disk)
    assert mmel("report", run)[0] == 1
    assert "maps-0-00000.js" in written
    assert not (run / "index.html").exists()
    assert not (run / "report/data/head.js").exists()
    monkeypatch.setattr(build_module, "write_text", lambda path, text: (written.append(path.name), real(path, text)))
    assert mmel("report", run)[0] == 0
    assert written[-2:] == ["head.js", "index.html"]
    assert len({first, Report(run).head["build"]}) == 2
    assert all(
        Report(run).load(name)[1][-1] == Report(run).head["build"] for name in Report(run).files if name != "head.js"
    )
