"""The ground truth of a batch on the patch grid, for a method that needs it."""

import numpy as np

from mmel_cli.data.images import ImageLimits
from mmel_cli.data.truth import read_truth
from mmel_cli.errors import RecordError
from mmel_cli.geometry import to_grid
from mmel_cli.pipelines.batches import Batch
from mmel_cli.types import Failure


def truths(batch: Batch, grid: tuple[int, int], limits: ImageLimits) -> tuple[dict[str, np.ndarray], list[Failure]]:
    """The ground truth of each pair on the patch grid, and the pairs that have none."""
    grids, failures = {}, []
    for sample in batch.samples:
        decoded = batch.images[sample.ref.key]
        try:
            mask = read_truth(sample, decoded.size, limits)
        except RecordError as error:
            failures.append(Failure(sample.id, error.stage, str(error)))
            continue
        if mask is None:
            failures.append(Failure(sample.id, "pair", "has neither a mask nor boxes, which --method mask needs"))
        else:
            grids[sample.id] = to_grid(mask, decoded.pixels.box, grid)
    return grids, failures
