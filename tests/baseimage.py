"""The root file system that test images start from: Debian with python3, git and patch, trimmed and kept as a tar."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "1"
"""Part of the file name; raise it whenever PACKAGES or TRIM changes."""
SUITE = "bookworm"
PACKAGES = "python3,git,patch"
TRIM = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    "usr/lib/*-linux-gnu/gconv",
    "usr/lib/*-linux-gnu/perl",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)


class CannotBuild(Exception):
    """Why there is no base image; plain words for a skip."""


def base_tar() -> Path:
    """The cached tar, made first where it is absent (debootstrap, about a minute). Raises CannotBuild."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isobench-tests"
    kept = cache / f"base-{SUITE}-{VERSION}.tar"
    if kept.exists():
        return kept
    if os.geteuid() != 0:
        raise CannotBuild(f"no {kept}, and only root can make it with debootstrap")
    if shutil.which("debootstrap") is None:
        raise CannotBuild(f"no {kept}, and no debootstrap to make it with")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=cache) as scratch:
        tree, part = Path(scratch) / "tree", Path(scratch) / "base.tar"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(tree)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise CannotBuild(f"debootstrap: {(made.stdout + made.stderr).strip().splitlines()[-1]}")
        for pattern in TRIM:
            for folder in tree.glob(pattern):
                shutil.rmtree(folder)
        # The engine mounts its own /dev, /proc and /sys.
        skip = [f"--exclude=./{name}/*" for name in ("dev", "proc", "sys")]
        subprocess.run(["tar", "-C", str(tree), "--numeric-owner", *skip, "-cf", str(part), "."], check=True)
        part.replace(kept)
    return kept
