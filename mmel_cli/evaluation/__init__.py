"""Is a map right? Metrics by name, and whether one run is better than another. Importing this loads no torch."""

from mmel_cli.evaluation.registry import GROUPS, METRICS, STANDARD, Metric, select

__all__ = ["GROUPS", "METRICS", "STANDARD", "Metric", "select"]
