"""The command line; each command is a thin module. Importing this loads neither torch nor transformers."""

from mmel_cli.cli.app import main

__all__ = ["main"]
