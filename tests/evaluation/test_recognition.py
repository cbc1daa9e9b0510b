"""Recognition on mosaics: what is shown and said, and the pooled count, by a method that is told where to look."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmel_cli.evaluation import METRICS
from mmel_cli.evaluation.bench import Bench, Partner, Subject
from mmel_cli.evaluation.metrics.recognition import recognition
from mmel_cli.evaluation.mosaics import TILE, listing, mentions, name_of
from mmel_cli.tensors import Decoded, Pixels
from mmel_cli.types import Explanation, ImageRef, Phrase, Sample, Word

SIDE = 6
COLOURS = {"a red circle": (255, 0, 0), "a blue cube": (0, 0, 255), "two stars": (0, 255, 0), "a dog": (9, 9, 9)}


def words_of(caption):
    spans, at = [], 0
    for part in caption.split(" "):
        spans.append(Word(part, at, at + len(part)))
        at += len(part) + 1
    return tuple(spans)


def record(caption, fields):
    values = {name: np.asarray(array, np.float32) for name, array in fields.items()}
    return Explanation("r", "i.png", caption, False, 0.5, (12, 12), (0, 0, 12, 12), values, words=words_of(caption))


def test_captions_join_names():
    assert listing(["a dog"]) == ("a dog", [(0, 5)])
    assert listing(["a dog", "two stars"])[0] == "a dog and two stars"
    text, spans = listing(list(COLOURS))
    assert text == "a red circle, a blue cube, two stars and a dog"
    assert [text[start:end] for start, end in spans] == list(COLOURS)


def test_a_name_is_the_only_phrase():
    ref = ImageRef("i", lambda: None)
    assert name_of(Sample("r", "i", ref, "a photo of a dog")) == "a dog"
    assert name_of(Sample("r", "i", ref, "a dog on a sofa")) is None
    assert name_of(Sample("r", "i", ref, "a dog on a sofa", phrases=(Phrase(2, 5),))) == "dog"
    assert name_of(Sample("r", "i", ref, "?")) is None
    assert mentions(["A Dog, asleep"], "a dog")
    assert not mentions(["a dogma"], "a dog")


@pytest.mark.parametrize("grid", [(4, 6), (7, 5)])
def test_pooled_over_names_against_plain_numpy(grid):
    rng = np.random.default_rng(0)
    caption, spans = listing(list(COLOURS))
    phrases, places = [Phrase(*span) for span in spans], [2, 0, 3, 1]
    maps = rng.normal(size=(len(words_of(caption)), *grid))
    owner = [0, 0, 0, 1, 1, 1, 2, 2, -1, 3, 3]
    good = total = 0.0
    for name, place in enumerate(places):
        values = maps[[number for number, own in enumerate(owner) if own == name]].sum(0)
        for row in range(grid[0]):
            for column in range(grid[1]):
                if row == (grid[0] - 1) / 2 or column == (grid[1] - 1) / 2:
                    continue  # the middle of an odd side
                inside = (row >= grid[0] / 2) == place // 2 and (column >= grid[1] / 2) == place % 2
                value = values[row, column]
                total += abs(value)
                good += abs(value) if (value > 0) == inside else 0
    found = recognition(record(caption, {"map": np.eye(3), "words/map": maps}), phrases, places)
    assert found == pytest.approx(good / total, rel=1e-5)


def test_one_map_for_four_names_is_a_quarter_by_construction():
    caption, spans = listing(list(COLOURS))
    phrases = [Phrase(*span) for span in spans]
    blind = record(caption, {"map": np.random.default_rng(1).random((6, 8))})
    assert recognition(blind, phrases, [0, 1, 2, 3]) == pytest.approx(0.25)
    assert recognition(record(caption, {"map": np.zeros((4, 4))}), phrases, [0, 1, 2, 3]) is None


def test_a_name_that_the_model_does_not_read_leaves_it_undefined():
    caption, spans = listing(["a dog", "two stars"])
    cut = Explanation("r", "i", caption, True, 0.5, (4, 4), (0, 0, 4, 4), {"map": np.eye(4)}, words=words_of("a dog"))
    assert recognition(cut, [Phrase(*span) for span in spans], [0, 1]) is None
    assert recognition(cut, [Phrase(*spans[0])], [0]) == 0.5  # the middle of an even grid belongs to quarters


class Pointing:
    """Looks for the colour of each phrase in the picture that it is given."""

    def __init__(self):
        self.samples, self.shown = [], {}

    def explanations(self, samples, images):
        self.samples += samples
        found = {}
        for sample in samples:
            pixels = images[sample.ref.key].pixels.values.permute(1, 2, 0).numpy()
            maps = []
            for phrase in sample.phrases:
                colour = COLOURS[sample.caption[phrase.start : phrase.end]]
                maps.append((np.abs(pixels - colour).max(-1) < 1).astype(np.float32))
            fields = {"map": maps[0], "phrases/map": np.stack(maps)}
            own = record(sample.caption, fields)
            own.fields["phrases/span"] = np.array([(p.start, p.end) for p in sample.phrases], np.int32)
            found[sample.id] = own
        return found


def tile(name):
    return Image.new("RGB", (SIDE, SIDE), COLOURS[name])


def preprocess(image, geometry):
    assert geometry == "squash"
    values = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
    return Pixels(values, (0.0, 0.0, float(image.width), float(image.height)))


def subject(name, caption):
    own = Explanation(name, f"{name}.png", caption, False, 0.5, (3, 3), (0, 0, 3, 3), {"map": np.eye(3)})
    image = Decoded(Pixels(torch.zeros(3, 4, 4), (0.0, 0.0, 3.0, 3.0)), (3, 3), {TILE: tile("a red circle")})
    return Subject(own, Sample(name, own.image, ImageRef(own.image, lambda: None), caption), image)


def bench(*partners):
    made = Bench({}, model=SimpleNamespace(preprocess=preprocess), explainer=Pointing())
    made.partners = tuple(partners)
    return made


def partner(name, *captions):
    return Partner(f"{name}.png", frozenset(captions or (f"a photo of {name}",)), tile(name), (name,))


@pytest.mark.parametrize("seed", range(4))
def test_a_method_that_finds_every_name_scores_one(seed):
    made = bench(*(partner(name) for name in COLOURS if name != "a red circle"))
    (found,) = METRICS["recognition"].measure(made, [subject(f"r{seed}", "a photo of a red circle")])
    assert found.values == {f"recognition-{n}": 1.0 for n in (1, 2, 3, 4)}
    samples = made.again.samples
    assert len({sample.ref.key for sample in samples}) == 1  # one picture
    assert [len(sample.phrases) for sample in samples] == [1, 2, 3, 4]
    assert all(sample.caption.startswith("a red circle") for sample in samples)
    assert len(set(samples[3].boxes)) == 4
    assert samples[2].boxes == samples[3].boxes[:3]


def test_names_that_another_image_may_show_are_left_out():
    """A partner whose captions say a name of the mosaic is none, and without three others there is no mosaic."""
    three = [partner("a blue cube"), partner("two stars"), partner("a dog", "a dog", "A red circle above a dog")]
    own = subject("r", "a red circle")
    assert METRICS["recognition"].measure(bench(*three), [own])[0].values == {}
    assert METRICS["recognition"].measure(bench(*three[:2], partner("a dog")), [own])[0].values != {}
    several = subject("r", "a red circle and a dog")
    assert METRICS["recognition"].measure(bench(*three[:2], partner("a dog")), [several])[0].values == {}
