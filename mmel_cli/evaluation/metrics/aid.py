"""FIxLIP's area between insertion and deletion of patches and tokens together."""

from collections.abc import Sequence

from mmel_cli.evaluation import protocols
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions
from mmel_cli.evaluation.metric import TOKENS, Metric, Name, Outcome
from mmel_cli.evaluation.protocols import AidOptions


class Aid(Metric):
    """One record at a time."""

    names = (
        Name("aid", "up", (float("-inf"), float("inf")),
             "mean difference of the logit, scaled to 0..1 between nothing and all, when patches and tokens go least "
             "important first against most important first; undefined where that range is below 1"),
    )  # fmt: skip
    group = "aid"
    source = "FIxLIP 2025, area between insertion and deletion"
    needs = TOKENS | {"score"}
    settings = ("aid",)

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        model, batch, outcomes = bench.adapter, bench.option(FaithfulnessOptions).batch, []
        for subject in subjects:
            captions = model.tokenize([subject.record.caption])
            pixels = bench.pixels([subject])
            value = protocols.aid(model, pixels, captions, subject.record, bench.option(AidOptions), batch)
            outcomes.append(Outcome({"aid": value} if value == value else {}))  # noqa: PLR0124 - not NaN
        return outcomes
