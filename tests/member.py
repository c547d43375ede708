"""A plain member of the group that may use the engine: our code run as somebody who is not root.

The user is a bare number with a home folder, so the host's /etc/passwd stays as it is. Interpreter and packages may
lie where only root can go (/root); a private mount namespace shows them at readable paths, and ends with the process.
"""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dockerd import GROUP

UID = 64218
GID = 64218


class Member:
    """`home` is the member's own folder; `packages` holds a copy of our package, whose files an engine can mount."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="isb-member-"))
        self.root.chmod(0o755)
        self.home = self.root / "home"
        self.packages = self.root / "packages"
        for folder in (self.home, self.root / "python", self.root / "site", self.packages):
            folder.mkdir()
        shutil.copytree(
            Path(__file__).parents[1] / "isobench_tui",
            self.packages / "isobench_tui",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for path in (self.packages, *self.packages.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.give(self.home)

    def give(self, path: Path) -> Path:
        """Make the member the owner of a file or folder with all in it; returns it."""
        for item in (path, *path.rglob("*")):
            shutil.chown(item, UID, GID)
        return path

    @property
    def python(self) -> str:
        """The interpreter as the member sees it."""
        return f"{self.root}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"

    def env(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": f"{self.packages}:{self.root}/site",
            "LD_LIBRARY_PATH": f"{self.root}/python/lib",  # an interpreter with a shared libpython
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            **more,
        }

    def argv(self, *command: str) -> list[str]:
        """The command that runs `command` as the member, to be started by root with `env()`."""
        # Only the system's site-packages: those of a virtual environment are in its own first entry.
        packages = next(path for path in (*site.getsitepackages(), *sys.path) if (Path(path) / "pydantic").exists())
        script = (
            f'mount --bind "$1" {self.root}/python && mount --bind "$2" {self.root}/site && shift 2 && '
            f'exec setpriv --reuid {UID} --regid {GID} --groups {GROUP} --inh-caps=-all --no-new-privs -- "$@"'
        )
        become = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "member"]
        return [*become, sys.base_prefix, packages, *command]

    def run(
        self, command: Sequence[str], *, more: Mapping[str, str] = {}, limit: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the member and return what it printed."""
        return subprocess.run(
            self.argv(*command),
            env=self.env(more),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def script(self, source: str, *arguments: str, limit: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python source as the member."""
        return self.run([self.python, "-c", source, *arguments], limit=limit)

    def close(self) -> None:
        shutil.rmtree(self.root)
