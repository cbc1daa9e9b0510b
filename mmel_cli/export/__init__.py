"""What other tools read, without torch. To add a format: a file with a FORMAT, and its name in mmel_cli/names.py."""

from importlib import import_module

from mmel_cli import names
from mmel_cli.errors import UsageError
from mmel_cli.export.base import Exported, ExportOptions, Format, Job
from mmel_cli.export.run import export
from mmel_cli.names import hint, match

FORMATS: dict[str, Format] = {
    name: import_module(f"{__name__}.{module}").FORMAT for name, module in names.EXPORTS.items()
}


def find_format(name: str) -> Format:
    """Look a format up, whatever the case of its name.

    Raises:
        UsageError: listing the formats there are; or if a package that it is written with is not installed.
    """
    known = match(name, FORMATS)
    if known is None:
        raise UsageError(f"--to {name}: is not one of {', '.join(FORMATS)}{hint(name, FORMATS)}")
    chosen = FORMATS[known]
    if chosen.package is not None:
        try:
            import_module(chosen.package)
        except ImportError as error:
            raise UsageError(
                f"--to {known} needs {chosen.package}, which is not installed; "
                f"pip install '.[{chosen.extra}]' in a clone of mmel"
            ) from error
    return chosen


__all__ = ["FORMATS", "ExportOptions", "Exported", "Format", "Job", "export", "find_format"]
