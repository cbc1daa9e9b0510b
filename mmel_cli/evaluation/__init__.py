"""Is a map right? Metrics by name, and whether one run is better than another."""

from mmel_cli.evaluation.metric import Metric, Name, Outcome
from mmel_cli.evaluation.metrics import METRICS
from mmel_cli.evaluation.registry import STANDARD, groups, named, select

__all__ = ["METRICS", "STANDARD", "Metric", "Name", "Outcome", "groups", "named", "select"]
