"""The tar within a layer's blob, whatever it is compressed with."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from isobench_tui.engine.images.tarfmt import Unmergeable

PIECE = 1 << 20
"""Bytes of tar in one piece, about."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of a zstd frame that holds no data (RFC 8878, 3.1.2); chunked zstd layers may begin with one."""
_OTHERS = {b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


def pieces(blob: Path, at: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
    """The tar, piece by piece; `at` is told how far into the blob that is.

    Raises Unmergeable for what is not gzip, zstd or plain, and for a blob that is cut short.
    """
    with blob.open("rb") as file:
        for piece in _unpacked(blob, file):
            at(file.tell())
            yield piece


def _unpacked(blob: Path, file: IO[bytes]) -> Iterator[bytes]:
    head = file.read(8)
    file.seek(0)
    if head.startswith(_GZIP):
        yield from _gzip(blob, file)
    elif head.startswith(_ZSTD) or head[1:4] == _SKIPPABLE:
        yield from _zstd(blob, file)
    else:
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise Unmergeable(f"{blob.name} is compressed with {name}")
        while piece := file.read(PIECE):
            yield piece


def _gzip(blob: Path, file: IO[bytes]) -> Iterator[bytes]:
    from isal import igzip

    try:
        with igzip.IGzipFile(fileobj=file) as stream:  # type: ignore[no-untyped-call]
            while piece := stream.read(PIECE):
                yield piece
    except (EOFError, OSError, zlib.error) as error:  # isal's own error is zlib's
        raise Unmergeable(f"{blob.name}: {error}") from error


def _zstd(blob: Path, file: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
            while piece := stream.read(PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise Unmergeable(f"{blob.name}: {error}") from error
