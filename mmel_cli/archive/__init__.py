"""The HDF5 archive of a run (numpy and h5py only)."""

from mmel_cli.archive.merge import merge
from mmel_cli.archive.reader import Archive, load_archive
from mmel_cli.archive.rows import words_from
from mmel_cli.archive.schema import ArchiveOptions, fingerprint
from mmel_cli.archive.verify import VerifyReport, verify
from mmel_cli.archive.writer import ShardWriter

__all__ = [
    "Archive",
    "ArchiveOptions",
    "ShardWriter",
    "VerifyReport",
    "fingerprint",
    "load_archive",
    "merge",
    "verify",
    "words_from",
]
