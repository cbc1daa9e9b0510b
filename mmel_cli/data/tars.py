"""Tar shards, as webdataset and img2dataset write them: members of one key follow each other; nothing is unpacked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from mmel_cli.data.base import Request, Source, refuse_caption, refuse_columns
from mmel_cli.data.boxes import boxes_in
from mmel_cli.data.captions import MAX_BYTES, NO_CAPTION, check_caption, decoded_line
from mmel_cli.data.paths import SUFFIXES, escaped, is_image, record_id, resolve, shown, stem_of, suffix_of, walk
from mmel_cli.data.phrases import phrases_in
from mmel_cli.data.records import Seen, captions_in
from mmel_cli.data.sidecar import CAPTION_SUFFIXES
from mmel_cli.data.tar_members import Member, check_uncompressed, read_members
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, ImageRef, Sample

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_JSON = ".json"
_MASK = ".mask"
_JSON_LIMIT = 1 << 20
_LOOKED_AT = 1000  # members, to say what the shards hold
_SHARDS_LOOKED_AT = 20
_PICKLED = (".pyd", ".pkl", ".pickle")


def recognise(request: Request) -> Source | None:
    """A .tar file, or a folder that holds some, in it or deeper."""
    path = request.path
    names = walk(path) if path.is_dir() else [path.name]
    shards = tuple(sorted(name for name in names if name.endswith((".tar", *COMPRESSED))))
    if not shards:
        return None
    refuse_caption(request)
    refuse_columns(request, "a set of tar shards", caption=False)
    source = _Shards(request.folder, shards, request.caption_column)
    suffixes, more = source.look(), len(source.names) - 1
    first = shown(source.names[0]) + (f" and {more} more" if more else "")
    pieces = tuple(partial(source.piece, name) for name in source.names)
    return Source(request, f"tar shards ({first}; {suffixes})", source.read, pieces=pieces)


@dataclass(frozen=True)
class _Shards:
    """`column`: of the captions in .json members, if the user named one; then other captions are not read."""

    root: Path
    names: tuple[str, ...]
    column: str | None

    def read(self) -> Iterator[Sample | Failure]:
        """Entries in the order of shards and their members."""
        for name in self.names:
            yield from self.piece(name)

    def piece(self, name: str) -> Iterator[Sample | Failure]:
        """Entries of one shard."""
        try:
            path = resolve(self.root, name)
            check_uncompressed(path)
        except (RecordError, UsageError) as error:
            yield Failure(escaped(name), "image", str(error))
            return
        yield from self._shard(path, name)

    def look(self) -> str:
        """What the first shard with images holds, by suffix.

        Raises:
            UsageError: if no image is among the first members of the first shards; it says what the first holds.
        """
        problems = []
        for name in self.names[:_SHARDS_LOOKED_AT]:
            try:
                path = resolve(self.root, name)
                check_uncompressed(path)
                return _suffixes(path, name)
            except (RecordError, UsageError) as error:
                problems.append(str(error))
        raise UsageError(problems[0])

    def _shard(self, path: Path, shard: str) -> Iterator[Sample | Failure]:
        keys = Seen()
        for key, group in _groups(path, shard):
            if isinstance(group, RecordError):
                yield Failure(escaped(f"{shard}/{key}" if key else shard), group.stage, str(group))
            elif keys.is_new(key):
                yield from self._group(shard, key, {member.name: member for member in group}, len(group))
            elif any(_is_read(_kind(member.name)) for member in group):
                error = f"{shown(f'{shard}/{key}')}: its members do not follow each other; sort the names in the tar"
                yield Failure(f"{shard}/{key}", "pair", error)

    def _group(self, shard: str, key: str, members: dict[str, Member], count: int) -> Iterator[Sample | Failure]:
        """The samples of the members that share a key.

        Beside a.jpg, an a.depth.png without a caption of its own is no image to explain.
        """
        if count > len(members):
            yield Failure(f"{shard}/{key}", "pair", f"{shown(f'{shard}/{key}')}: has members of the same name")
            return
        images = [name for name in members if is_image(name) and not _is_mask(name)]
        plain = [name for name in images if stem_of(name) == key]
        images = [name for name in images if name in plain or not plain or _own_caption(members, name)]
        captioned = any(suffix_of(name) in (*CAPTION_SUFFIXES, _JSON) for name in members)
        if not images and captioned:
            kinds = shown(", ".join(sorted(_kind(name) for name in members)))
            yield Failure(f"{shard}/{key}", "image", f"{shown(f'{shard}/{key}')}: has no image but {kinds}")
        for name in images:
            yield from self._image(f"{shard}/{name}", key, members[name], members)

    def _image(self, image: str, key: str, member: Member, members: dict[str, Member]) -> Iterator[Sample | Failure]:
        where, stem = shown(image), stem_of(member.name)
        try:
            notes = _notes(_of(members, stem, key, _JSON))
            masks = SUFFIXES if any(_MASK in name for name in members) else ()
            mask = next((m for s in masks if (m := _of(members, stem, key, _MASK + s))), None)
            boxes = boxes_in(notes.get("boxes"), where)
            captions = self._captions(members, member.name, key, notes)
            beside = partial(_mask_of, members, PurePosixPath(key).parent)
            phrases = phrases_in(notes.get("phrases"), captions, where, beside)
        except RecordError as error:
            yield Failure(record_id(image, 0), error.stage, str(error), (image, member.ref))
            return
        for number, caption in enumerate(captions):
            identity = record_id(image, number)
            try:
                text = check_caption(caption, where)
            except RecordError as error:
                yield Failure(identity, error.stage, str(error), (image, member.ref))
                continue
            yield Sample(identity, image, member.ref, text, mask.ref if mask else None, boxes, phrases)

    def _captions(self, members: dict[str, Member], name: str, key: str, notes: dict[str, Any]) -> list[Any]:
        """Of the text beside the image, else of its .json."""
        if self.column is None:
            for suffix in CAPTION_SUFFIXES:
                text = _of(members, stem_of(name), key, suffix)
                if text is not None:
                    return [decoded_line(text.read(MAX_BYTES + 4), text.ref.key)]
            if not notes:
                wanted = f"{' or '.join(CAPTION_SUFFIXES)} or {_JSON}"
                raise RecordError("pair", f"{NO_CAPTION}: no {wanted} of the key {shown(key)} in the shard")
        return captions_in(notes, self.column, shown(name))


def _suffixes(path: Path, shard: str) -> str:
    """The suffixes of a shard's first members: which are read, and which are not.

    Raises:
        UsageError: if no image is among them.
    """
    kinds, problem = set(), ""
    for name, member in islice(read_members(path, shard), _LOOKED_AT):
        if isinstance(member, Member):
            kinds.add(_kind(member.name))
        elif not name:
            problem = f"; {member}"
    listed = sorted(kind for kind in kinds if kind)
    read = [kind for kind in listed if _is_read(kind)]
    if not any(is_image(f"x{kind}") for kind in read):
        what = shown(", ".join(listed)) or "none that can be read"
        raise UsageError(f"{shown(str(path))}: holds no images; its members: {what}{problem}")
    ignored = [kind for kind in listed if not _is_read(kind)]
    pickled = " (never unpickled)" if any(kind.endswith(_PICKLED) for kind in ignored) else ""
    return ", ".join(read) + (f"; ignored: {shown(', '.join(ignored))}{pickled}" if ignored else "")


def _groups(path: Path, shard: str) -> Iterator[tuple[str, list[Member] | RecordError]]:
    """Consecutive members of one key; what is refused comes out where it stands."""
    group: list[Member] = []
    for name, member in read_members(path, shard):
        if isinstance(member, RecordError):
            if group and not name:  # the rest cannot be read, and some of the last group's members may lie there
                key, group = _key(group[0].name), []
                yield key, RecordError("pair", f"{shown(f'{shard}/{key}')}: may lack members; see the shard's failure")
            yield name, member
            continue
        if group and _key(member.name) != _key(group[0].name):
            yield _key(group[0].name), group
            group = []
        group.append(member)
    if group:
        yield _key(group[0].name), group


def _key(name: str) -> str:
    """webdataset's: the folder, and the base name up to its first dot."""
    begin = name.rfind("/") + 1
    return name[:begin] + name[begin:].split(".", 1)[0]


def _kind(name: str) -> str:
    """The suffix; of a mask both."""
    suffix = suffix_of(name)
    return f"{_MASK}{suffix}" if _is_mask(name) else suffix


def _is_mask(name: str) -> bool:
    return is_image(name) and suffix_of(stem_of(name)) == _MASK


def _is_read(kind: str) -> bool:
    return kind in (*CAPTION_SUFFIXES, _JSON) or is_image(f"x{kind}")


def _own_caption(members: dict[str, Member], name: str) -> bool:
    stem = stem_of(name)
    return any(f"{stem}{suffix}" in members for suffix in (*CAPTION_SUFFIXES, _JSON))


def _of(members: dict[str, Member], stem: str, key: str, suffix: str) -> Member | None:
    """The member that goes with an image: by its whole stem, else by the key."""
    return members.get(f"{stem}{suffix}") or members.get(f"{key}{suffix}")


def _mask_of(members: dict[str, Member], folder: PurePosixPath, given: dict[str, Any], where: str) -> ImageRef | None:
    """The mask of a phrase: a member of the image's key, named relative to its folder in the shard.

    Raises:
        RecordError: stage "pair", if there is none.
    """
    name = given.get("mask")
    if name in (None, ""):
        return None
    member = members.get((folder / name).as_posix()) if isinstance(name, str) else None
    if member is None:
        raise RecordError("pair", f"{where}: mask must be a member of the image's key, and {shown(repr(name))} is none")
    return member.ref


def _notes(member: Member | None) -> dict[str, Any]:
    """What a .json member says.

    Raises:
        RecordError: stage "pair", if it is too long or no JSON object.
    """
    if member is None:
        return {}
    where = shown(member.ref.key)
    if member.size > _JSON_LIMIT:
        raise RecordError("pair", f"{where}: is {member.size} bytes of JSON, over {_JSON_LIMIT}")
    try:
        notes = json.loads(member.read(_JSON_LIMIT).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RecordError("pair", f"{where}: is not JSON in UTF-8") from error
    if not isinstance(notes, dict):
        raise RecordError("pair", f"{where}: is not a JSON object")
    return notes
