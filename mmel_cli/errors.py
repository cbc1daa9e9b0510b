"""One tree of errors that end a command, and one for a single bad record.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 done but some pairs failed, 130 interrupted, 143 terminated.
"""

from signal import SIGTERM

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class MmelError(Exception):
    """Ends the command with `exit_code`; the message is one line and says what to do."""

    exit_code = EXIT_FAILED
    kind = "failed"  # in the JSON document of --json


class StoppedError(MmelError):
    """A signal came before there was anything to tell."""

    kind = "interrupted"

    def __init__(self, signal: int) -> None:
        super().__init__("Stopped; run the same command again to go on")
        self.exit_code = EXIT_TERMINATED if signal == SIGTERM else EXIT_INTERRUPTED


class UsageError(MmelError):
    """The command line or the configuration is wrong."""

    exit_code = EXIT_USAGE
    kind = "usage"


class ArchiveError(MmelError):
    """An archive is damaged, unsafe, or not what the command needs."""

    kind = "archive"


class DamagedError(ArchiveError):
    """An archive file is cut off or its bytes have changed; its records can be computed again."""


class ModelError(MmelError):
    """A model cannot be loaded or cannot be explained."""

    kind = "model"


class RecordError(Exception):
    """One pair cannot be used; caught at the record boundary and turned into a `types.Failure`.

    `stage` is where it happened: "pair", "image", "caption" or "model".
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
