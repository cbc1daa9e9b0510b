"""Speed of insertion and deletion at 11 points: batched as `mmel eval` does it, against one masked image at a time.

    python scripts/bench_eval.py --model builtin --records 32

Both ways score the same maps with the same masks in one process, in turn; the ratio of the best of three is printed,
and the largest difference between their areas.
"""

import argparse
import time

import torch
from torch import Tensor

from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, baseline_images, embed_pixels
from mmel_cli.evaluation.ranking import area, pixel_ranks
from mmel_cli.model import Adapter, load_model

OPTIONS = FaithfulnessOptions()


def batched(model: Adapter, images: Tensor, texts: Tensor, maps: Tensor) -> Tensor:
    """(2, records): areas under insertion and deletion."""
    points = embed_pixels(model, images, maps, OPTIONS)
    return torch.stack(
        [area(torch.einsum("bpd,bd->bp", curve, texts)) for curve in (points.insertion, points.deletion)]
    )


def one_by_one(model: Adapter, images: Tensor, texts: Tensor, maps: Tensor) -> Tensor:
    """The same by a plain loop over records, curves and points."""
    areas = []
    for image, text, values in zip(images.split(1), texts.split(1), maps.split(1), strict=True):
        fill, place = baseline_images(model, image, OPTIONS), pixel_ranks(values, tuple(image.shape[2:]))
        total, curves = int(place.max()) + 1, []
        for insertion in (True, False):
            scores = []
            for step in range(OPTIONS.steps + 1):
                top = place < round(total * step / OPTIONS.steps)
                kept = torch.where((top if insertion else ~top)[:, None], image, fill)
                scores.append((model.embed_images(kept) * text).sum())
            curves.append(area(torch.stack(scores)))
        areas.append(torch.stack(curves))
    return torch.stack(areas, 1)


def best_of(way, given: tuple, times: int = 3) -> tuple[float, Tensor]:  # noqa: ANN001 - one of the two above
    seconds, result = [], torch.zeros(0)
    for _ in range(times):
        start = time.perf_counter()
        result = way(*given).cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--records", type=int, default=32)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    model = load_model(args.model, args.device, "auto")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(args.records, 3, *model.spec.image_size, generator=generator).to(model.spec.device)
    maps = torch.randn(args.records, *model.spec.grid, generator=generator).to(model.spec.device)
    texts = model.embed_texts(model.tokenize(["a red circle"] * args.records))
    given = (model, images, texts, maps)
    one_by_one(model, images[:2], texts[:2], maps[:2])  # warm up
    slow, wanted = best_of(one_by_one, given)
    fast, areas = best_of(batched, given)
    print(f"{args.model} on {model.spec.device}, {args.records} records, {OPTIONS.steps + 1} points, both curves")
    print(f"batched {args.records / fast:.1f} records/s, one by one {args.records / slow:.1f} records/s")
    print(f"ratio {slow / fast:.2f}; largest difference of an area {float((areas - wanted).abs().max()):.1e}")


if __name__ == "__main__":
    main()
