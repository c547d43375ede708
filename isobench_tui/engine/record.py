"""`process.json`: who runs an attempt, kept in its run directory while the process engine holds it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from isobench_tui.engine import procs
from isobench_tui.engine.base import Handle, HandleState
from isobench_tui.engine.job import EVENTS_FILE

RECORD = "process.json"
_TAIL = 64 * 1024


class Record(BaseModel):
    """`process.json`. `pid` is 0 from before the copy until the driver was started."""

    model_config = ConfigDict(frozen=True)

    attempt: str
    name: str
    workspace: str
    run_dir: str
    tree: str
    pid: int = 0
    starttime: int = 0
    boot_id: str = ""

    @property
    def handle_id(self) -> str:
        return f"{self.pid}:{self.starttime}:{self.boot_id}"

    @property
    def alive(self) -> bool:
        """The driver runs. A record that someone rewrote cannot name a process that is not the attempt's."""
        return (
            self.pid > 0
            and self.boot_id == procs.boot_id()
            and procs.is_attempts(self.pid, self.starttime, self.attempt)
        )

    def handle(self, state: HandleState) -> Handle:
        return Handle(self.attempt, self.name, self.handle_id, Path(self.run_dir), state)


def started(record: Record, pid: int) -> Record:
    """The record with a driver that runs now."""
    since = procs.start_time(pid) or 0
    return record.model_copy(update={"pid": pid, "starttime": since, "boot_id": procs.boot_id()})


def _read(path: Path, last: int = _TAIL) -> bytes:
    """The last bytes of a file that measured code could have replaced: no links, no FIFO. b"" if it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as f:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return b""
        f.seek(max(0, found.st_size - last))
        return f.read(last)


def read_record(run_dir: Path) -> Record | None:
    """The record of a run directory; None if there is none, or nothing that we wrote."""
    try:
        return Record.model_validate_json(_read(run_dir / RECORD))
    except ValueError:
        return None


def write_record(record: Record) -> None:
    """Write it whole, through a temporary name."""
    target = Path(record.run_dir) / RECORD
    fresh = target.with_name(f".{RECORD}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(record.model_dump_json())
    fresh.replace(target)


def claimed_code(run_dir: Path) -> int | None:
    """The exit code of the driver's own `end` event."""
    for line in reversed(_read(run_dir / EVENTS_FILE).splitlines()):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "end" and isinstance(event.get("exit_code"), int):
                return int(event["exit_code"])
    return None
