"""Time and memory of planning a run of many records, and of a rank's way to its last shard.

    python scripts/bench_plan.py --records 100000,1000000

Makes metadata.jsonl with five captions an image (images are hard links, since planning opens none), or tars as
webdataset writes them, plans them in a process of its own, and reads the last shard's entries in another, as a rank
that claims it does. Prints Markdown; memory is the largest resident set, and in brackets what planning added to it.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

CAPTIONS = 5  # an image
IN_A_TAR = 10_000  # images
CHILD = """if True:
    import json, resource, sys, time
    from pathlib import Path
    from mmel_cli.config import load_config
    from mmel_cli.data import open_source
    from mmel_cli.pipelines.planning import Cursor, checked_parts
    from mmel_cli.runs import CommittedRecords
    from mmel_cli.runs.plan import Head, read_plan, shard_entries, write_plan

    def most():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    what, place, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    config = load_config(options={"model.name": "builtin"})
    size = shard_entries(config.archive.shard_size, config.batch_size)
    before, began = most(), time.perf_counter()
    source = open_source(place)
    if what == "plan":
        head = Head("0" * 64, config.batch_size, size, None, "0" * 64)
        plan = write_plan(out, head, checked_parts(source, CommittedRecords(out)))
    else:
        plan = read_plan(out)
        assert len(Cursor(source, plan, out).entries(plan.shards[-1])) == plan.shards[-1].entries
    print(json.dumps([time.perf_counter() - began, most(), most() - before, plan.entries]))
"""


def rows(folder: Path, records: int) -> Path:
    """An imagefolder of that many rows."""
    folder.mkdir()
    photo = folder.with_name("photo.png")
    Image.new("RGB", (8, 8)).save(photo)
    with (folder / "metadata.jsonl").open("w") as file:
        for number in range(-(-records // CAPTIONS)):
            name = f"{number // 1000:05}/{number:08}.png"
            if number % 1000 == 0:
                (folder / name).parent.mkdir()
                links = photo.with_name(f"photo{number // 20_000}.png")  # file systems limit the links of a file
                links.exists() or links.write_bytes(photo.read_bytes())
            os.link(links, folder / name)
            for k in range(min(CAPTIONS, records - CAPTIONS * number)):
                row = {"file_name": name, "text": f"a photo of thing {number}, told for the {k}. time in a few words"}
                file.write(json.dumps(row) + "\n")
    return folder


def tars(folder: Path, records: int) -> Path:
    """Tar shards of an image and a text each."""
    folder.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg")
    photo = buffer.getvalue()
    for first in range(0, records, IN_A_TAR):
        with tarfile.open(folder / f"{first // IN_A_TAR:05}.tar", "w") as tar:
            for number in range(first, min(first + IN_A_TAR, records)):
                text = f"a photo of thing {number}, told in a few words".encode()
                for suffix, content in (("jpg", photo), ("txt", text)):
                    member = tarfile.TarInfo(f"{number:09}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def measure(what: str, place: Path, out: Path) -> tuple[float, float, float, int]:
    """Seconds, the largest resident set in MB, what was added to it, and the number of entries."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, what, place, out], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, most, added, entries = json.loads(done.stdout)
    return seconds, most, added, entries


def main() -> None:
    """Print a line for each number of records and kind of input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="100000,1000000")
    parser.add_argument("--inputs", default="rows,tars")
    given = parser.parse_args()
    print(
        "| input | records | plan, s | plan, MB | a rank's way to the last shard, s |\n| --- | --- | --- | --- | --- |"
    )
    makers = {"rows": rows, "tars": tars}
    for records in map(int, given.records.split(",")):
        for name in given.inputs.split(","):
            with tempfile.TemporaryDirectory() as scratch:
                place, out = makers[name](Path(scratch) / name, records), Path(scratch) / "plan.jsonl"
                seconds, most, added, entries = measure("plan", place, out)
                if entries != records:
                    raise SystemExit(f"{name}: {entries} entries instead of {records}")
                way = measure("way", place, out)[0]
            print(f"| {name} | {records:,} | {seconds:.1f} | {most:.0f} ({added:.0f}) | {way:.1f} |", flush=True)


if __name__ == "__main__":
    main()
