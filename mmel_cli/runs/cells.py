"""Cells of tables that people open."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also full-width


def as_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before one that could be."""
    return "'" + text if text.startswith(_FORMULA) else text
