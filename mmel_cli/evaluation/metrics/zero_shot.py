"""Grad-ECLIP's zero-shot curves: whether the caption is still the best as pixels go and come back."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mmel_cli.evaluation import protocols
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import CaptionSet, FaithfulnessOptions
from mmel_cli.evaluation.metric import CHOICE, Copy, Metric, Name, Outcome
from mmel_cli.model import Adapter
from mmel_cli.model.forwards import in_parts

_SHRUNK = "grad-eclip"  # the copy of the original at the protocol's size


def _names(top: int) -> tuple[Name, Name]:
    many = f"the caption is among the best {top}" if top > 1 else "the caption is the best"
    return (
        Name(f"grad-eclip-insertion-top{top}", "up", (0, 1),
             f"part of the points at which {many} of the set (which should hold the captions word for word): the "
             "highest 5, 10 ... 50 % of the original's pixels on black, then all; area over the fraction"),
        Name(f"grad-eclip-deletion-top{top}", "down", (0, 1),
             f"the same, {many}, when the highest 0, 5 ... 50 % become random colours"),
    )  # fmt: skip


class ZeroShot(Metric):
    """Each altered original goes through the unmodified model, one record at a time."""

    names = tuple(name for top in protocols.TOPS for name in _names(top))
    group = "grad-eclip"
    source = "Zhao et al. 2024, Grad-ECLIP, its released code"
    needs = CHOICE
    settings = ("rivals",)

    def copies(self, bench: Bench) -> Mapping[str, Copy]:
        """See Metric."""
        del bench
        return {_SHRUNK: protocols.shrink}

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return [self._one(bench, subject) for subject in subjects]

    def _one(self, bench: Bench, subject: Subject) -> Outcome:
        model, choice = bench.adapter, bench.choice([subject])
        if bool(choice.alone[0]):
            return Outcome()
        inserted, deleted = protocols.eclip_images(subject.decoded.kept[_SHRUNK], subject.record)
        pixels = torch.stack([model.preprocess(image, "native").values for image in [*inserted, *deleted]])
        pixels = pixels.to(model.spec.device)
        batch = bench.option(FaithfulnessOptions).batch
        embeds = in_parts(partial(_embed_rows, model, pixels), len(pixels), batch, pixels.device)
        return Outcome(dict(protocols.eclip_areas(_places(choice, embeds))))


def _places(choice: CaptionSet, embeds: Tensor) -> Tensor:
    """How many captions are better than the right one, at 11 insertions and 11 deletions."""
    return choice.place(embeds[None])[0].view(2, -1)


def _embed_rows(model: Adapter, pixels: Tensor, rows: Tensor) -> Tensor:
    return model.embed_images(pixels[rows])
