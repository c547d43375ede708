"""Text out of the dashboard: into a file that only the user can read, because the terminal's clipboard may lose it.

OSC 52 is silently dropped by tmux unless `set-clipboard on`, and terminals cut it; a file never fails unseen.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

OSC52_MOST = 74_994
"""Bytes of text that common terminals accept in one OSC 52 sequence (100,000 of base64, less the frame)."""


def to_file(text: str, folder: Path, what: str, suffix: str = "txt") -> Path:
    """Write it to a new file in `folder`, 0600, named after what it is and the time. Raises OSError."""
    with new_file(folder, what, suffix) as (file, path):
        file.write(text)
    return path


@contextlib.contextmanager
def new_file(folder: Path, what: str, suffix: str = "txt") -> Iterator[tuple[TextIO, Path]]:
    """Such a file to write into; removed again if that fails. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", what).strip("-.")[:60] or "copy"
    fd, path = _create(folder, f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}", suffix)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            yield file, path
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _create(folder: Path, stem: str, suffix: str) -> tuple[int, Path]:
    for number in range(100):
        path = folder / (f"{stem}-{number}.{suffix}" if number else f"{stem}.{suffix}")
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), path
    raise FileExistsError(f"{folder} is full of {stem}")


def clipped(text: str) -> str:
    """As much of the text as the clipboard takes: whole lines, or of one long line its head."""
    data = text.encode(errors="replace")
    if len(data) <= OSC52_MOST:
        return text
    head = data[:OSC52_MOST]
    end = head.rfind(b"\n") + 1
    return head[: end or None].decode(errors="ignore")
