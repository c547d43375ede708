"""Text out of the dashboard: into a file that only the user can read, because the terminal's clipboard may lose it.

OSC 52 is silently dropped by tmux unless `set-clipboard on`, and terminals cut it; a file never fails unseen.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

OSC52_MOST = 74_994
"""Bytes of text that common terminals accept in one OSC 52 sequence (100,000 of base64, less the frame)."""


def to_file(text: str, folder: Path, what: str, suffix: str = "txt") -> Path:
    """Write it to a new file in `folder`, 0600, named after what it is and the time. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", what).strip("-.")[:60] or "copy"
    moment = time.strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        path = folder / (f"{stem}-{moment}.{suffix}" if not number else f"{stem}-{moment}-{number}.{suffix}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
    raise FileExistsError(f"{folder} is full of {stem}-{moment}")
