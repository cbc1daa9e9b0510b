"""Average drop and increase: the image faded to the baseline by the map."""

from collections.abc import Sequence

from mmel_cli.evaluation import faithfulness
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import EVEN_SETTINGS, FaithfulnessOptions
from mmel_cli.evaluation.localisation import as_tensor
from mmel_cli.evaluation.metric import CHOICE, Metric, Name, Outcome


class Fading(Metric):
    """On the probability of the caption in a set of captions."""

    names = (
        Name("average-drop", "down", (0, 1),
             "max(0, p - p') / p, p' with the image faded to the baseline by the map scaled to 0..1"),
        Name("average-increase", "up", (0, 1), "1 if that raises the probability"),
    )  # fmt: skip
    group = "faithfulness"
    source = "Chattopadhay et al. 2018, Grad-CAM++"
    needs = CHOICE
    settings = (*EVEN_SETTINGS, "rivals")

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        choice, options = bench.choice(subjects), bench.option(FaithfulnessOptions)
        maps = as_tensor([subject.record.map for subject in subjects])
        faded = faithfulness.fade(bench.adapter, bench.pixels(subjects), maps, options)
        before = choice.probability(bench.images(subjects)[:, None])[:, 0]
        drops, rises = faithfulness.drop_and_increase(before, choice.probability(faded)[:, 0])
        return [
            Outcome({"average-drop": drop, "average-increase": rise} if drop == drop else {})  # noqa: PLR0124 - not NaN
            for drop, rise in zip(drops.tolist(), rises.tolist(), strict=True)
        ]
