"""How few patches hold the evidence."""

from collections.abc import Sequence

from mmel_cli.evaluation import sanity
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import Metric, Name, Outcome


class Sparseness(Metric):
    """Of the map as it is archived."""

    names = (Name("sparseness", "up", (0, 1), "Gini coefficient of the map's magnitudes; 0 for a constant map"),)
    group = "sanity"
    source = "Chalasani et al. 2020"

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        del bench
        return [Outcome({"sparseness": sanity.sparseness(subject.record.map)}) for subject in subjects]
