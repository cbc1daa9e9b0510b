"""Slow, literal re-implementations in float64."""
