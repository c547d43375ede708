"""Tar headers: read so that their raw blocks can be passed on, written where a name has to change.

Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU tar's long names, sparse files and base-256 numbers, and V7.
Where they leave room this reads as Go's archive/tar does, because the engine does. Names are bytes: nothing says that
they are UTF-8.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from isobench_tui.engine.base import PullFailed

BLOCK = 512
ZERO = bytes(BLOCK)
_LONGEST = 8 << 20
"""Bytes of header blocks of one entry beyond which something is wrong."""

FILE, LINK, SYMLINK, CHAR, DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_V7_FILE, _CONTIGUOUS, _SPARSE = b"\0", b"7", b"S"
_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK = b"g", b"x", b"L", b"K"
_FILES = frozenset({FILE, _V7_FILE, _CONTIGUOUS, _SPARSE})
_EMPTY = frozenset({LINK, SYMLINK, CHAR, DEVICE, FOLDER, FIFO})
"""Entries without content, whatever their size says."""
_METADATA = frozenset({b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"})
"""Pax records that a hard link's own entry sets anew for the file that it leads to."""
_PLACE = frozenset({b"path", b"linkpath"})


class Unmergeable(PullFailed):
    """Layers that cannot be made one faithfully; to pull the image as it is may still work."""


class Source(Protocol):
    """Bytes to come, of which some can be looked at without taking them."""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        ...


@dataclass(slots=True)
class Entry:
    """One member of a tar, with the blocks that announce it."""

    path: bytes
    """Where it goes: cleaned, relative to the root, which is `b""`."""
    kind: bytes
    """FILE for everything with content."""
    size: int
    """Bytes that its content takes, padding included."""
    raw: bytes
    """Its header blocks as they came, without global ones: the engine ignores those."""
    taken: int
    """Bytes that its header blocks took in the source."""
    main: int
    """Where in `raw` the block of its own begins, after those that extend it."""
    pax: Mapping[bytes, bytes]
    link: bytes = b""
    """Target of a LINK (cleaned) or SYMLINK (as written)."""

    def renamed(self, path: bytes) -> bytes:
        """Its header blocks under another path. Raises Unmergeable for a sparse file."""
        self._not_sparse()
        return b"".join((self.raw[: self.main], _long(_LONG_NAME, path), self.raw[self.main :]))

    def linked(self, path: bytes, target: bytes) -> bytes:
        """The header blocks of a LINK under another path and to another target."""
        extended = _long(_LONG_NAME, path) + _long(_LONG_LINK, target)
        return b"".join((self.raw[: self.main], extended, self.raw[self.main :]))

    def adopted(self, alias: Entry, path: bytes) -> bytes:
        """Header blocks for this file at `path`, with the metadata that a LINK to it gives the file."""
        self._not_sparse()
        records = {key: value for key, value in self.pax.items() if key not in _METADATA | _PLACE}
        records |= {key: value for key, value in alias.pax.items() if key in _METADATA}
        theirs, block = alias.raw[alias.main :], bytearray(self.raw[self.main :])
        for field in (slice(100, 124), slice(136, 148)):  # mode, uid, gid; mtime
            block[field] = theirs[field]
        extended = _long(_LONG_NAME, path) + (_long(_LONG_LINK, self.link) if self.kind == SYMLINK else b"")
        return b"".join((_pax(records), extended, _summed(block)))

    def _not_sparse(self) -> None:
        odd = any(key.startswith(b"GNU.sparse.") for key in self.pax) or len(self.raw) > self.main + BLOCK
        if odd or self.raw[self.main + 156 : self.main + 157] == _SPARSE:
            raise Unmergeable(f"{self.path!r} is a sparse file, and needed under another name")


def folder(path: bytes) -> bytes:
    """The header blocks of a folder that layers imply but none describes: root's, 0755."""
    return _long(_LONG_NAME, path) + _block(b"implied/", FOLDER, 0, mode=0o755)


def read(source: Source) -> Entry | None:
    """The next entry, left where it is; None at the end. Raises Unmergeable."""
    taken, kept = 0, b""
    pax: dict[bytes, bytes] = {}
    name = link = None
    while True:
        block = source.peek(taken + BLOCK)[taken:]
        if len(block) < BLOCK:
            if block or taken:
                raise Unmergeable("a layer ends within a header")
            return None
        if block == ZERO:
            return None
        kind, size = block[156:157], number(block[124:136])
        if kind not in {_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK}:
            break
        whole = BLOCK + padded(size)
        if taken + whole > _LONGEST:
            raise Unmergeable(f"extended headers of more than {_LONGEST >> 20} MiB")
        body = source.peek(taken + whole)[taken:]
        if len(body) < whole:
            raise Unmergeable("a layer ends within a header")
        taken += whole
        if kind == _GLOBAL:
            continue
        kept += body
        value = body[BLOCK : BLOCK + size]
        if kind == _PAX:
            pax = _records(value)
        elif kind == _LONG_NAME:
            name = value.partition(b"\0")[0]
        else:
            link = value.partition(b"\0")[0]
    return _entry(source, block, taken, kept, pax, name, link)


def _entry(
    source: Source,
    block: bytes,
    taken: int,
    kept: bytes,
    pax: Mapping[bytes, bytes],
    name: bytes | None,
    link: bytes | None,
) -> Entry:
    """The entry whose own block this is; `name` and `link` are GNU tar's long ones."""
    kind, size = block[156:157], number(block[124:136])
    written = name or pax.get(b"GNU.sparse.name") or pax.get(b"path") or _name(block)
    path = clean(written)
    if kind == _V7_FILE and written.endswith(b"/"):
        kind = FOLDER
    if kind not in _FILES and kind not in _EMPTY:
        raise Unmergeable(f"{path!r} is of the unknown type {kind!r}")
    if b"size" in pax:
        size = number(pax[b"size"], 10)
    raw, extra = kept + block, 0
    if kind == _SPARSE and block[482]:  # the map of its parts goes on in further blocks
        raw, extra = _sparse_map(source, taken, raw)
    target = link or pax.get(b"linkpath") or block[157:257].partition(b"\0")[0]
    return Entry(
        path=path,
        kind=FILE if kind in _FILES else kind,
        size=0 if kind in _EMPTY else padded(size),
        raw=raw,
        taken=taken + BLOCK + extra,
        main=len(kept),
        pax=pax,
        link=clean(target) if kind == LINK else target if kind == SYMLINK else b"",
    )


def padded(size: int) -> int:
    """Bytes that content of this size takes in a tar."""
    return -(-size // BLOCK) * BLOCK


def number(field: bytes, base: int = 8) -> int:
    """A number of a header, 0 or more: octal digits, or GNU's base-256. Raises Unmergeable."""
    if base == 8 and field[0] & 0x80:
        if field[0] & 0x40:
            raise Unmergeable("a size below 0 in a header")
        return int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        value = int(digits, base) if digits else 0
    except ValueError:
        value = -1
    if value < 0 or b"_" in digits:
        raise Unmergeable(f"{field!r} is no size")
    return value


def clean(name: bytes) -> bytes:
    """A member's name as a path from the root: no `.`, no empty part, no `/` around. Raises Unmergeable."""
    if b"/." in name or name[:1] in {b".", b"/"} or b"//" in name:
        name = posixpath.normpath(name.lstrip(b"/") or b".")
        if name == b".." or name.startswith(b"../"):
            raise Unmergeable(f"{name!r} leads out of the image")
        return b"" if name == b"." else name
    return name.rstrip(b"/")


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":  # GNU's magic has a space there, and other things in place of the prefix
        end = 476 if block[508:512] == b"tar\0" else 500
        prefix = block[345:end].partition(b"\0")[0]
        if prefix:
            return prefix + b"/" + name
    return name


def _records(body: bytes) -> dict[bytes, bytes]:
    """Pax records, `LENGTH KEY=VALUE\\n` each; an empty value says nothing."""
    found, at = {}, 0
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + 20)
        length = body[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or not equals or body[end - 1 : end] != b"\n":
            raise Unmergeable("an extended header that cannot be read")
        if value:
            found[key] = value
        at = end
    return found


def _sparse_map(source: Source, taken: int, raw: bytes) -> tuple[bytes, int]:
    extra = BLOCK
    while True:
        more = source.peek(taken + BLOCK + extra)[taken + extra :]
        if len(more) < BLOCK or extra > _LONGEST:
            raise Unmergeable("a layer ends within the map of a sparse file")
        raw += more
        if not more[504]:
            return raw, extra
        extra += BLOCK


def _long(kind: bytes, value: bytes) -> bytes:
    body = value + b"\0"
    return _block(b"././@LongLink", kind, len(body)) + body.ljust(padded(len(body)), b"\0")


def _pax(records: Mapping[bytes, bytes]) -> bytes:
    if not records:
        return b""
    body = b"".join(_record(key, value) for key, value in records.items())
    return _block(b"PaxHeaders/isobench", _PAX, len(body)) + body.ljust(padded(len(body)), b"\0")


def _record(key: bytes, value: bytes) -> bytes:
    text = b" " + key + b"=" + value + b"\n"
    length = len(text) + len(str(len(text)))
    length = len(text) + len(str(length))  # the length counts its own digits
    return str(length).encode() + text


def _block(name: bytes, kind: bytes, size: int, *, mode: int = 0o644) -> bytes:
    block = bytearray(BLOCK)
    block[: len(name)] = name
    fields = ((100, b"%07o\0" % mode), (108, b"%07o\0" % 0), (116, b"%07o\0" % 0), (124, b"%011o\0" % size))
    for at, text in (*fields, (136, b"%011o\0" % 0), (156, kind), (257, b"ustar  \0")):
        block[at : at + len(text)] = text
    return _summed(block)


def _summed(block: bytearray) -> bytes:
    """With its checksum: the sum of its bytes, those of the sum itself taken as spaces."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
