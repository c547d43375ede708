"""Where copied and saved lines go: always to a file that only its owner can read, and small ones to the clipboard."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

CLIPBOARD_CAP = 74_994
"""Bytes that the clipboard gets. Terminals drop an OSC 52 sequence above 100,000 bytes, and base64 adds a third."""
COPIES = "clipboard.txt"


def clipped(text: str) -> str:
    """As much of the text as the clipboard takes: whole lines, or of one long line its head."""
    data = text.encode()
    if len(data) <= CLIPBOARD_CAP:
        return text
    head = data[:CLIPBOARD_CAP]
    end = head.rfind(b"\n") + 1
    return head[: end or None].decode(errors="ignore")


def write_copy(folder: Path, text: str) -> Path:
    """Replace the file of the last copy. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{COPIES}.", dir=folder)  # 0600
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        return Path(name).replace(folder / COPIES)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@contextlib.contextmanager
def new_file(folder: Path, stem: str) -> Iterator[tuple[TextIO, Path]]:
    """A new file, `stem.txt` or `stem-2.txt` and so on; removed where writing it fails. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "-", stem)[:100]
    fd, path = _create(folder, stem)
    done = False
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            yield file, path
        done = True
    finally:
        if not done:
            with contextlib.suppress(OSError):
                path.unlink()


def _create(folder: Path, stem: str) -> tuple[int, Path]:
    for number in range(1, 10_000):
        path = folder / (f"{stem}.txt" if number == 1 else f"{stem}-{number}.txt")
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), path
    raise FileExistsError(f"{folder} holds ten thousand saves of this log")
