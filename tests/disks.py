"""Real file systems of their own: small ones that tests fill up, and new ones that benchmarks start from.

ext4 in a sparse file, so that filling one costs neither time nor space.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MB = 1 << 20
_FILL = "fill"


class CannotMount(Exception):
    """Why there is no small file system; plain words for a skip."""


class SmallDisk:
    """A mounted file system of `size` bytes at `path`. Raises CannotMount."""

    def __init__(self, size: int, *, journal: bool = False) -> None:
        if os.geteuid() != 0:
            raise CannotMount("mounting a file system needs root")
        for tool in ("mkfs.ext4", "mount", "losetup"):
            if shutil.which(tool) is None:
                raise CannotMount(f"no {tool} on PATH")
        self._folder = Path(tempfile.mkdtemp(prefix="isb-disk-"))
        self._folder.chmod(0o755)
        self.path = self._folder / "m"
        self.path.mkdir()
        image = self._folder / "image"
        with image.open("wb") as file:
            file.truncate(size)
        # Nothing is kept for root (-m 0): the tests are root, and an engine is too.
        try:
            options = [] if journal else ["-O", "^has_journal"]
            _run("mkfs.ext4", "-q", "-F", "-m", "0", *options, image)
            # The inode tables of a sparse file are zero already: the kernel need not write zeros there for minutes.
            _run("mount", "-o", "loop,noinit_itable", image, self.path)
        except CannotMount:
            shutil.rmtree(self._folder)
            raise
        shutil.rmtree(self.path / "lost+found")

    @property
    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all but `leave` bytes; with 0 not a byte is left, whoever writes."""
        name = self.path / _FILL
        with name.open("ab") as file:
            while (room := self.free - leave) > 0:
                step = max(4096, room - room // 64) if room > 64 * 1024 else 4096
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                except OSError:
                    if step == 4096:
                        break

    def empty(self) -> None:
        """Give back what `fill` took."""
        (self.path / _FILL).unlink(missing_ok=True)

    def close(self) -> None:
        _run("umount", self.path)
        shutil.rmtree(self._folder)


def _run(*argv: str | Path) -> None:
    done = subprocess.run([*map(str, argv)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotMount(f"{argv[0]}: {done.stderr.strip()}")
