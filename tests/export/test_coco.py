"""`mmel export --to coco`, opened by pycocotools."""

import json

import numpy as np
import pytest
from export.conftest import BOXES
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmel_cli import load_archive


@pytest.mark.parametrize("geometry", BOXES)
def test_boxes_lie_where_the_evidence_is_whatever_the_geometry(geometry, placed, tmp_path, mmel):
    code, out, err = mmel("export", placed[geometry], "--to", "coco", "--out", tmp_path / "b.json", "--threshold", 0.5)
    assert code == 0, err
    assert "5 boxes" in out
    coco = COCO(tmp_path / "b.json")
    x0, y0, x1, y1 = BOXES[geometry]
    assert [a["bbox"] for a in coco.loadAnns(coco.getAnnIds())] == [[x0, y0, x1 - x0, y1 - y0]] * 5
    assert sorted(image["file_name"] for image in coco.loadImgs(coco.getImgIds())) == ["0.png", "1.png", "2.png"]
    assert {(image["height"], image["width"]) for image in coco.imgs.values()} == {(80, 160)}
    names = {c["name"]: (c["supercategory"], len(coco.getAnnIds(catIds=[c["id"]]))) for c in coco.cats.values()}
    assert names == {f"a red dog {n}": ("caption", 1) for n in range(5)}
    assert coco.annToMask(coco.anns[1]).sum() == (x1 - x0) * (y1 - y0)


def test_annotations_are_results_that_cocoeval_scores(placed, tmp_path, mmel):
    assert mmel("export", placed["squash"], "--to", "coco", "--out", tmp_path / "b.json", "--threshold", 0.5)[0] == 0
    said = json.loads((tmp_path / "b.json").read_text())
    results = said["annotations"]
    x0, y0, x1, y1 = BOXES["squash"]
    truth = [
        {"id": a["id"], "image_id": a["image_id"], "category_id": a["category_id"], "iscrowd": 0}
        | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        for a in results
    ]
    (tmp_path / "truth.json").write_text(json.dumps(said | {"annotations": truth}))
    coco = COCO(tmp_path / "truth.json")
    scored = COCOeval(coco, coco.loadRes(results), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1.0)  # AP at IoU .50 to .95
    assert all(0 < one["score"] <= 1 for one in results)


def test_a_record_with_phrases_has_boxes_of_each(spoken, tmp_path, mmel):
    code, out, err = mmel("export", spoken, "--to", "coco", "--out", tmp_path / "b.json", "--json")
    assert code == 0, err
    counts = json.loads(out)["counts"]
    coco = COCO(tmp_path / "b.json")
    with load_archive(spoken) as archive:
        records = {record.id: record for record in archive}
    for annotation in coco.anns.values():
        record = records[annotation["record"]]
        category = coco.cats[annotation["category_id"]]
        start, end = annotation["span"]
        assert record.caption[start:end] == category["name"]
        assert category["supercategory"] == ("phrase" if record.phrases else "caption")
        assert coco.imgs[annotation["image_id"]]["file_name"] == record.image
        assert annotation["cosine"] == record.score
        assert (annotation["share"] is None) == (category["supercategory"] == "caption")
        assert annotation["share"] is None or annotation["share"] > 0
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= record.image_size[1]
        assert 0 <= y < y + height <= record.image_size[0]
    shares = np.concatenate([record.fields["phrases/share"] for record in records.values()])
    assert counts["phrases left out, whose share is not above 0"] == (shares <= 0).sum() > 0
    named = {(c["supercategory"], c["name"]) for c in coco.cats.values()}
    assert {("phrase", "a red dog"), ("phrase", "a blue cat"), ("caption", "of on the")} <= named
    assert (counts["boxes"], counts["images"]) == (len(coco.anns), len(coco.imgs)) == (counts["boxes"], 3)
    turned = next(image for image in coco.imgs.values() if image["file_name"] == "turned.jpg")
    assert (turned["height"], turned["width"]) == (160, 80)  # upright


def test_a_shard_and_a_merged_file_give_the_same(spoken, tmp_path, mmel):
    assert mmel("merge", spoken, "--out", tmp_path / "one.h5")[0] == 0
    for place, name in ((spoken, "a"), (spoken / "archive", "b"), (tmp_path / "one.h5", "c")):
        assert mmel("export", place, "--to", "coco", "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert mmel("export", spoken / "archive/part-00000.h5", "--to", "coco", "--out", tmp_path / "d")[0] == 0
    assert len(COCO(tmp_path / "d").imgs) == 1


def test_a_lower_threshold_gives_larger_boxes(spoken, tmp_path, mmel):
    area = {}
    for threshold in (0, 0.2, 0.9):
        out = tmp_path / f"{threshold}.json"
        assert mmel("export", spoken, "--to", "coco", "--out", out, "--threshold", threshold)[0] == 0
        area[threshold] = sum(a["area"] for a in json.loads(out.read_text())["annotations"])
    assert mmel("export", spoken, "--to", "coco", "--out", tmp_path / "default.json")[0] == 0
    assert sum(a["area"] for a in json.loads((tmp_path / "default.json").read_text())["annotations"]) == area[0.2]
    assert area[0] > area[0.2] > area[0.9] > 0
