"""The caption side: tokens masked out of attention by their evidence."""

from collections.abc import Sequence

import torch

from mmel_cli.evaluation import faithfulness
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import TOKENS, Metric, Name, Outcome


class TokenCurves(Metric):
    """On the cosine."""

    names = (
        Name("token-deletion", "down", (-1, 1),
             "area under the cosine as the caption's highest tokens are masked out of attention"),
        Name("token-insertion-deletion", "up", (-2, 2),
             "the same lowest tokens first, minus highest first; 0 for a random map"),
    )  # fmt: skip
    group = "caption"
    source = "Petsiuk et al. 2018, RISE, on tokens"
    needs = TOKENS

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        captions = bench.adapter.tokenize([subject.record.caption for subject in subjects])
        maps = [torch.from_numpy(subject.record.token_map) for subject in subjects]
        areas = faithfulness.token_curves(bench.adapter, captions, bench.images(subjects), maps)
        return [
            Outcome({"token-deletion": highest, "token-insertion-deletion": lowest - highest})
            for highest, lowest in areas.tolist()
        ]
