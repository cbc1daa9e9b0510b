"""What a run folder is: its marker and lock, what it was made from, its failure log, and how a command is stopped."""

from mmel_cli.runs.control import Events, Stop
from mmel_cli.runs.failures import FailureLog, read_failures
from mmel_cli.runs.folder import EVALUATED, EXPLAINED, REPORTED, TRAINED, FolderKind, RunFolder
from mmel_cli.runs.identity import SETTINGS, Decides, decides, differences, fingerprint, run_identity, settings
from mmel_cli.runs.resume import CommittedRecords, committed_records

__all__ = [
    "EVALUATED",
    "EXPLAINED",
    "REPORTED",
    "SETTINGS",
    "TRAINED",
    "CommittedRecords",
    "Decides",
    "Events",
    "FailureLog",
    "FolderKind",
    "RunFolder",
    "Stop",
    "committed_records",
    "decides",
    "differences",
    "fingerprint",
    "read_failures",
    "run_identity",
    "settings",
]
