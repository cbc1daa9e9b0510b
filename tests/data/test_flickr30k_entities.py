"""The script that converts Flickr30k Entities: small files in its format in, pairs of mmel out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layouts import png, write
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.data.truth import has_truth, read_truth
from mmel_cli.types import Sample

SCRIPT = Path(__file__).parents[2] / "scripts/convert_flickr30k_entities.py"
SENTENCES = """\
[/EN#1/people A young man] in [/EN#2/clothing a red cap] kicks [/EN#3/other/scene a ball] .
[/EN#1/people He] is at [/EN#4/scene the beach] , and [/EN#0/notvisual it] is [/EN#0/notvisual  fun ] .
Nothing is marked here .
"""
ANNOTATIONS = """\
<annotation>
  <filename>12.jpg</filename>
  <size><width>9</width><height>7</height><depth>3</depth></size>
  <object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>7</ymax></bndbox></object>
  <object><name>1</name><name>2</name><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>9</xmax><ymax>1</ymax></bndbox></object>
  <object><name>3</name><scene>0</scene><nobndbox>1</nobndbox></object>
  <object><name>4</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>
"""
EMPTY = "<annotation></annotation>"


def lay_out(root, **files):
    """Two images; `files` by name (s is Sentences, a is Annotations) replace the files of the second."""
    for name in ("12", "34"):
        write(root / f"photos/{name}.jpg", png(Image.new("RGB", (9, 7))))
    write(root / "s/12.txt", SENTENCES)
    write(root / "a/12.xml", ANNOTATIONS)
    write(root / "s/34.txt", files.get("s", "[/EN#9/animals Two dogs]\n"))
    write(root / "a/34.xml", files.get("a", EMPTY))
    return root


def convert(root, *options):
    folders = ["--sentences", root / "s", "--annotations", root / "a", "--images", root / "photos"]
    return subprocess.run([sys.executable, SCRIPT, *folders, *options], check=False, capture_output=True, text=True)


def test_captions_phrases_and_boxes_come_out_as_mmel_reads_them(tmp_path):
    done = convert(lay_out(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("4 captions with 8 phrases, 3 of them with boxes")
    first, second, third, fourth = open_source(tmp_path / "photos")
    assert first.caption == "A young man in a red cap kicks a ball ."
    assert second.caption == "He is at the beach , and it is fun ."
    assert (third.caption, third.phrases) == ("Nothing is marked here .", ())
    assert (fourth.image, fourth.caption) == ("34.jpg", "Two dogs")
    said = [[sample.caption[p.start : p.end] for p in sample.phrases] for sample in (first, second, fourth)]
    assert said == [["A young man", "a red cap", "a ball"], ["He", "the beach", "it", "fun"], ["Two dogs"]]
    man, cap = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    man[1:7, 0:3] = True
    cap[0, 8] = True
    assert np.array_equal(read_truth(first.phrases[0], (7, 9)), man | cap)
    assert np.array_equal(read_truth(second.phrases[0], (7, 9)), man | cap)
    assert np.array_equal(read_truth(first.phrases[1], (7, 9)), cap)
    without = [first.phrases[2], *second.phrases[1:], *fourth.phrases]
    assert not any(has_truth(phrase) for phrase in without)


def test_a_split_is_written_beside_or_above_the_images(tmp_path):
    lay_out(tmp_path)
    write(tmp_path / "split.txt", "34\n")
    assert convert(tmp_path, "--split", tmp_path / "split.txt", "--out", tmp_path / "dogs.jsonl").returncode == 0
    (only,) = open_source(tmp_path / "dogs.jsonl")
    assert (only.image, only.caption) == ("photos/34.jpg", "Two dogs")
    rows = [json.loads(line) for line in (tmp_path / "dogs.jsonl").read_text().splitlines()]
    assert rows[0]["phrases"] == [{"start": 0, "end": 8, "text": "Two dogs", "entity": "9", "types": ["animals"]}]
    before = (tmp_path / "dogs.jsonl").read_bytes()
    assert convert(tmp_path, "--out", tmp_path / "dogs.jsonl").returncode == 2  # never written over
    assert (tmp_path / "dogs.jsonl").read_bytes() == before
    assert convert(tmp_path, "--out", tmp_path / "a/dogs.jsonl").returncode == 2  # images would lie outside


NAMED = "<annotation><object><name>&b;</name></object></annotation>"
LAUGHS = f'<!DOCTYPE annotation [<!ENTITY a "1"><!ENTITY b "&a;&a;">]>{NAMED}'
FETCHED = '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'
BOX = "<annotation><object><name>9</name><bndbox>{}</bndbox></object></annotation>"
BROKEN = {
    "markup that does not close": ({"s": "[/EN#9/animals Two dogs\n"}, "34.txt, line 1: is no caption"),
    "markup without words": ({"s": "see [/EN#9/animals ]\n"}, "34.txt, line 1: is no caption"),
    "markup in markup": ({"s": "[/EN#9/animals Two [/EN#8/other dogs]]\n"}, "34.txt, line 1: is no caption"),
    "not UTF-8": ({"s": b"Two caf\xe9s\n"}, "34.txt: is not UTF-8"),
    "no XML": ({"a": "<annotation>"}, "34.xml: is not XML"),
    "other XML": ({"a": "<html></html>"}, "34.xml: is <html>, not <annotation>"),
    "entities": ({"a": LAUGHS}, "34.xml: has a DOCTYPE"),
    "entities in UTF-16": ({"a": LAUGHS.encode("utf-16")}, "34.xml: has a DOCTYPE"),
    "external entities": ({"a": FETCHED}, "34.xml: has a DOCTYPE"),
    "no name": ({"a": "<annotation><object></object></annotation>"}, "34.xml: has an <object> without <name>"),
    "no corners": ({"a": BOX.format("<xmin>1</xmin>")}, "34.xml: has a <bndbox> without xmin"),
    "turned round": (
        {"a": BOX.format("<xmin>5</xmin><ymin>1</ymin><xmax>4</xmax><ymax>2</ymax>")},
        "34.xml: has a box from 5, 1 to 4, 2",
    ),
    "huge": ({"a": " " * (1 << 20) + EMPTY}, "34.xml: is over 1048576 bytes"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_what_is_broken_is_named_and_costs_its_image_alone(tmp_path, case):
    files, says = BROKEN[case]
    done = convert(lay_out(tmp_path, **files), "--out", tmp_path / "photos/some.jsonl")
    assert done.returncode == 3
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    samples = list(open_source(tmp_path / "photos/some.jsonl"))
    assert [type(sample) for sample in samples] == [Sample] * 3
    assert {sample.image for sample in samples} == {"12.jpg"}


@pytest.mark.parametrize("gone", ["photos/34.jpg", "a/34.xml"])
def test_what_is_missing_is_named(tmp_path, gone):
    (lay_out(tmp_path) / gone).unlink()
    done = convert(tmp_path)
    assert (done.returncode, gone.rsplit("/", 1)[1] in done.stderr) == (3, True)
    assert len(list(open_source(tmp_path / "photos/metadata.jsonl"))) == 3


def test_nothing_to_convert_writes_nothing(tmp_path):
    lay_out(tmp_path)
    write(tmp_path / "split.txt", "56\n78")
    assert convert(tmp_path, "--split", tmp_path / "split.txt").returncode == 2
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["12.jpg", "34.jpg"]
