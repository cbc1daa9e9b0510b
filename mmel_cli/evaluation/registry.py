"""Metrics by the names of their numbers and by group."""

from collections.abc import Iterable

from mmel_cli.errors import UsageError
from mmel_cli.evaluation.metric import Metric, Name
from mmel_cli.evaluation.metrics import METRICS
from mmel_cli.names import hint, match

STANDARD = ("faithfulness", "localisation", "sanity", "caption")
"""What `standard` means: neither new maps nor another protocol."""


def named() -> dict[str, tuple[Metric, Name]]:
    """Every number that a metric gives, by name, in the order of METRICS."""
    return {name.name: (metric, name) for metric in METRICS.values() for name in metric.names}


def groups() -> tuple[str, ...]:
    """The groups of metrics."""
    return tuple(dict.fromkeys(metric.group for metric in METRICS.values()))


def select(typed: Iterable[str]) -> tuple[str, ...]:
    """Names of numbers, by name or group in any case, `standard` or `all`, in the registry's order.

    Raises:
        UsageError: naming what there is.
    """
    numbers, all_groups = named(), groups()
    known = ("all", "standard", *all_groups, *numbers)
    wanted: set[str] = set()
    for text in typed:
        name = match(text, known)
        if name is None:
            raise UsageError(
                f"no metric or group {text!r}{hint(text, known)}; groups are all, standard, {', '.join(all_groups)}; "
                "mmel eval --help lists the metrics"
            )
        chosen = {"all": all_groups, "standard": STANDARD}.get(name, (name,) if name in all_groups else ())
        wanted |= {number for number, (metric, _) in numbers.items() if metric.group in chosen or number == name}
    return tuple(name for name in numbers if name in wanted)
