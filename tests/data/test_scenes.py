"""Scenes: captions are true, near ones are false, splits are apart, files repeat to the byte."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.data.scenes import HELD_OUT, Caption, Phrase, captions_of, hard_negatives, sample_scene
from mmel_cli.data.scenes.captions import truth_table
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.data.scenes.paint import paint
from mmel_cli.data.scenes.sample import COLOURS, SHAPES, SIZES, TEXTURES
from mmel_cli.data.truth import read_truth
from mmel_cli.errors import UsageError

SCENES = [sample_scene(3, "test", i) for i in range(60)]


def said(scene, seed=0):
    return captions_of(scene, np.random.default_rng(seed))


def test_the_world_is_as_large_as_promised():
    assert (len(SHAPES), len(COLOURS), len(TEXTURES), len(SIZES)) == (8, 8, 3, 2)
    assert {len(scene.objects) for scene in SCENES} >= {1, 2, 3, 4}
    assert {c.kind for scene in SCENES for c in said(scene)} == {"object", "attributes", "pair", "relation", "count"}


def test_captions_are_true_and_hard_negatives_false_and_different():
    for scene in SCENES:
        for caption in said(scene):
            assert caption.true_of(scene)
            assert caption.about(scene)
            for swaps in (1, 2):
                near = hard_negatives(caption, scene, swaps)
                assert not any(other.true_of(scene) for other in near)
                assert caption.text not in {other.text for other in near}


def test_truth_table_equals_the_definition():
    captions = [c for i, scene in enumerate(SCENES) for c in said(scene, i)]
    captions += [n for c in captions[:60] for n in hard_negatives(c, SCENES[0])[:5]]
    literal = [[caption.true_of(scene) for scene in SCENES] for caption in captions]
    assert np.array_equal(truth_table(captions, SCENES), literal)


def test_held_out_pairs_occur_in_the_test_split_alone():
    for split in ("train", "validation"):
        assert not any(o.held_out for i in range(1500) for o in sample_scene(0, split, i).objects), split
    seen = {(o.shape, o.colour) for i in range(1500) for o in sample_scene(0, "test", i).objects}
    assert seen >= HELD_OUT


def test_splits_and_seeds_are_apart():
    scenes = [sample_scene(seed, split, 0) for seed in (0, 1) for split in ("train", "validation", "test")]
    assert len(set(scenes)) == 6


def test_paint_depends_on_the_scene_not_on_the_batch():
    together = paint(SCENES[:5], 64)
    alone = paint([SCENES[3]], 64)
    assert torch.equal(together[0][3], alone[0][0])
    assert torch.equal(together[1][3], alone[1][0])


def test_masks_cover_the_object_and_nothing_hidden():
    images, masks = paint(SCENES, 96)
    assert int(masks.sum(1).max()) == 1  # no pixel belongs to two objects
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    plain, silhouette = paint(SCENES, 96, clutter=False)
    for scene, image, mask in zip(SCENES, plain, silhouette, strict=True):
        for k, item in enumerate(scene.objects):
            if item.texture == "plain" and mask[k].sum() > 30:
                colours = image[:, mask[k]]
                assert float(colours.std(1).max()) < 0.25  # one colour (and its soft edge), so the mask is the object


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
    }


def test_a_folder_is_the_same_in_every_process(tmp_path):
    write_scenes(tmp_path / "a", 3, 5, side=64)
    code = "import sys; from pathlib import Path; from mmel_cli.data.scenes.folder import write_scenes\n"
    code += "write_scenes(Path(sys.argv[1]), 3, 5, side=64)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "b"], check=True)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    write_scenes(tmp_path / "a", 3, 5, side=64)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(UsageError, match="other scenes"):
        write_scenes(tmp_path / "a", 3, 6, side=64)


def test_a_folder_is_an_imagefolder_with_exact_masks_and_boxes(tmp_path):
    count = write_scenes(tmp_path / "s", 8, 1, side=64)
    rows = [json.loads(line) for line in (tmp_path / "s/metadata.jsonl").read_text().splitlines()]
    samples = list(open_source(tmp_path / "s"))
    assert count == len(rows) == len(samples)
    assert len({row["file_name"] for row in rows}) == 8
    for sample, row in zip(samples, rows, strict=True):
        mask = np.asarray(Image.open(tmp_path / "s" / row["mask"])) > 0
        assert sample.mask.key == str(tmp_path / "s" / row["mask"])
        inside = np.zeros_like(mask)
        for x0, y0, x1, y1 in row["boxes"]:
            inside[y0:y1, x0:x1] = True
        assert mask.any() or not row["boxes"]
        assert not (mask & ~inside).any()


def matching(words, scene):
    """Objects that a phrase describes, from its words alone."""
    world = (*SHAPES, *COLOURS, *TEXTURES, *SIZES)
    said = {word for word in world for form in (word, f"{word}s", f"{word}es") if form in words}
    assert len(said) == len(words)
    return [k for k, o in enumerate(scene.objects) if said <= {o.shape, o.colour, o.texture, o.size}]


def test_every_phrase_of_a_caption_has_the_mask_and_boxes_of_what_it_names(tmp_path):
    write_scenes(tmp_path / "s", 25, 4, side=64)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "s/metadata.jsonl").read_text().splitlines()]
    assert set(kinds) == {"object", "attributes", "pair", "relation", "count"}
    scenes = {f"images/{n:06}.png": sample_scene(4, "test", n) for n in range(25)}
    for sample, kind in zip(open_source(tmp_path / "s"), kinds, strict=True):
        scene = scenes[sample.image]
        visible = paint([scene], 64)[1][0].numpy()
        assert len(sample.phrases) == (2 if kind in ("pair", "relation") else 1)
        for phrase in sample.phrases:
            text = sample.caption[phrase.start : phrase.end]
            assert text.split()[0] in ("a", "an", "one", "two", "three", "four")
            named = matching(text.split()[1:], scene)
            assert np.array_equal(read_truth(phrase, (64, 64)), visible[named].any(0))
            assert len(phrase.boxes) == sum(visible[k].any() for k in named)
        between = sample.caption[sample.phrases[0].end : sample.phrases[-1].start].strip()
        assert between in {"pair": ["and"], "relation": ["left of", "right of", "above", "below"]}.get(kind, [""])
        assert sample.caption[: sample.phrases[0].start] in ("", "a picture of ", "a photo of ", "an image of ")
        assert sample.phrases[-1].end == len(sample.caption)
        union = np.any([read_truth(phrase, (64, 64)) for phrase in sample.phrases], 0)
        assert np.array_equal(union, read_truth(sample, (64, 64)))
        if len(sample.phrases) == 1:
            assert (sample.phrases[0].mask, sample.phrases[0].boxes) == (sample.mask, sample.boxes)


def test_a_relation_names_those_objects_of_which_it_is_true():
    left, middle, right = (replace(SCENES[0].objects[0], x=x, y=0.5) for x in (0.2, 0.5, 0.8))
    scene = replace(SCENES[0], objects=(middle, replace(left, colour="white"), replace(right, colour="white")))
    colour, shape = middle.colour, middle.shape
    assert colour != "white"
    caption = Caption("relation", Phrase(shape, "white"), Phrase(shape, colour), "left of")
    assert caption.about_each(scene) == ((1,), (0,))
    assert caption.about(scene) == (0, 1)
    assert replace(caption, relation="above").about_each(scene) == ((), ())


def test_a_folder_of_a_version_without_phrases_is_written_anew(tmp_path):
    write_scenes(tmp_path / "new", 6, 2, side=64)
    write_scenes(tmp_path / "old", 6, 2, side=64)
    rows = [json.loads(line) for line in (tmp_path / "old/metadata.jsonl").read_text().splitlines()]
    for path in (tmp_path / "old/masks").iterdir():
        if f"masks/{path.name}" not in {row["mask"] for row in rows}:
            path.unlink()
    old = "".join(json.dumps({key: row[key] for key in row if key != "phrases"}) + "\n" for row in rows)
    (tmp_path / "old/metadata.jsonl").write_text(old)
    assert digests(tmp_path / "old") != digests(tmp_path / "new")
    write_scenes(tmp_path / "old", 6, 2, side=64)
    assert digests(tmp_path / "old") == digests(tmp_path / "new")


def test_refuses_a_folder_with_other_things(tmp_path):
    Path(tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        write_scenes(tmp_path, 1, 0)
