"""What other tools read, without torch. To add a format: a file with a FORMAT, and its name in mmel_cli/names.py."""

from importlib import import_module

from mmel_cli import names
from mmel_cli.errors import UsageError
from mmel_cli.export.base import Exported, ExportOptions, Format, Job
from mmel_cli.export.run import export
from mmel_cli.names import hint, match


def find_format(name: str) -> Format:
    """Look a format up, whatever the case of its name.

    Raises:
        UsageError: listing the formats there are; or if a package that it is written with is not installed.
    """
    known = match(name, names.EXPORTS)
    if known is None:
        every = ", ".join(names.EXPORTS)
        raise UsageError(f"--to {name}: is not one of {every}{hint(name, names.EXPORTS)}")
    chosen: Format = import_module(f"{__name__}.{names.EXPORTS[known]}").FORMAT
    if chosen.package is not None:
        try:
            import_module(chosen.package)
        except ImportError as error:
            raise UsageError(
                f"--to {known} needs {chosen.package}, which is not installed; pip install 'mmel-cli[{chosen.extra}]'"
            ) from error
    return chosen


__all__ = ["ExportOptions", "Exported", "Format", "Job", "export", "find_format"]
