"""Pairs of which parts are taken away on both sides: images at pixels, captions by words, each side embedded by itself.

Scores of all combinations are then dot products.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, baseline_images
from mmel_cli.model import Adapter
from mmel_cli.model.forwards import in_parts
from mmel_cli.model.many_texts import ManyTexts
from mmel_cli.model.words import only


@torch.no_grad()
def embed_shown(
    bench: Bench, subject: Subject, shown: Bool[Tensor, "copies height width"], *, mean: bool = False
) -> Float[Tensor, "copies embedding"]:
    """Unit embeddings of a record's image with only some pixels of the model's input shown.

    Args:
        bench: gives the model and what takes the place of pixels (FaithfulnessOptions).
        subject: the record.
        shown: which pixels stay, a row a copy.
        mean: the mean colour takes their place instead.
    """
    model, options, image = bench.adapter, bench.option(FaithfulnessOptions), bench.pixels([subject])
    fill = torch.zeros_like(image) if mean else baseline_images(model, image, options)
    shown = shown.to(image.device)

    def embed(rows: Tensor) -> Tensor:
        return model.embed_images(torch.where(shown[rows][:, None], image, fill))

    return in_parts(embed, len(shown), options.batch, image.device)


def embed_said(bench: Bench, subject: Subject, kept: Sequence[Sequence[bool]]) -> Float[Tensor, "copies embedding"]:
    """Unit embeddings of a record's caption with only some of its words (METHOD 8); without any it is "".

    Args:
        bench: gives the model.
        subject: the record, with its words.
        kept: which words stay, a row a copy; all of them: the caption as it is.
    """
    record = subject.record
    texts = [record.caption if all(row) and row else only(record.caption, record.words, row) for row in kept]
    return ManyTexts(bench.adapter).embeds([texts])[0]


def at_pixels(model: Adapter, cells: Bool[Tensor, "copies rows columns"]) -> Bool[Tensor, "copies height width"]:
    """Patches of the model's grid at the pixels of its input; what is left over behind the last patch goes with it."""
    places = [
        (torch.arange(side) // model.spec.patch).clamp_max(length - 1)
        for side, length in zip(model.spec.image_size, cells.shape[1:], strict=True)
    ]
    return cells[:, places[0]][:, :, places[1]]
