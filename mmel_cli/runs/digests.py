"""What an archive holds, as digests: the same records with the same maps have the same, wherever they lie."""

import hashlib
from collections.abc import Iterable

from mmel_cli.archive import Archive
from mmel_cli.fields import MAP, PHRASE_SHARE, PHRASE_SPAN, TOKEN_MAP, WORD_REST, WORD_SHARE

_TELLING = (
    MAP,
    TOKEN_MAP,
    WORD_SHARE,
    WORD_REST,
    PHRASE_SPAN,
    PHRASE_SHARE,
)  # not the maps of words: many times larger


def lines_sha256(lines: Iterable[str]) -> str:
    """SHA-256 of texts in order."""
    digest, between = hashlib.sha256(), ""
    for line in lines:
        digest.update(f"{between}{line}".encode("utf-8", "surrogatepass"))
        between = "\n"
    return digest.hexdigest()


def ids_sha256(archive: Archive) -> str:
    """Of the names of its records, in order."""
    return lines_sha256(str(name) for (name,) in archive.rows("id"))


def maps_sha256(archive: Archive) -> str:
    """Of its maps, and of what it has by token, word and phrase."""
    return archive.digest(*(field.name for field in archive.info.fields if field in _TELLING))
