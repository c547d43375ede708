"""Values that only the measured processes may see: files of the user, 0600, one per environment variable."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from isobench_tui.results.redact import redact


def folder() -> Path:
    """Where the values lie: `secrets/` in the user's config folder."""
    return Path(platformdirs.user_config_dir("isobench")) / "secrets"


def path(name: str) -> Path:
    return folder() / name


def missing(names: tuple[str, ...]) -> list[str]:
    """Names without a stored value."""
    return [name for name in names if not path(name).is_file()]


def save(names: tuple[str, ...]) -> None:
    """Store the values that the environment has now; what it lacks keeps its stored value."""
    for name in names:
        value = os.environ.get(name)
        if not value:
            continue
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path(name).with_suffix(".part")
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(value)
        part.replace(path(name))


def known() -> tuple[str, ...]:
    """Every stored value, longest first: what no text that we show, export or store may hold."""
    values = set()
    try:
        for entry in os.scandir(folder()):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if entry.is_file(follow_symlinks=False) and not entry.name.endswith(".part"):
                    values.add(Path(entry.path).read_text().strip())
    except OSError:
        return ()
    return tuple(sorted(values - {""}, key=len, reverse=True))


def redactor() -> Callable[[str], str]:
    """`redact` with the values that are stored now; make one a command, or one a screen."""
    values = known()
    return lambda text: redact(text, values)
