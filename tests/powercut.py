"""A power cut: what a workspace's processes wrote to its database is recorded; disks are made as a cut leaves them.

`strace` records every call that changes the files of the database, in order, of all processes of a run. At a cut a
file holds what it held at its last fsync, and of what was written since any part: nothing, all, some writes, some
sectors of a write. Names that were made or removed since their folder's last fsync are there or not, in order.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole (nvme(1), Linux Documentation/block: the smallest logical block)."""
CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,sync_file_range,copy_file_range,sendfile"
)


class CannotTrace(Exception):
    """Why nothing can be recorded here; plain words for a skip."""


@dataclass(frozen=True)
class Op:
    """One change. `kind`: write, truncate, sync, make, move, remove, say (an acknowledgement)."""

    kind: str
    name: str
    at: int = 0
    data: bytes = b""
    to: str = ""


def record(argv: Sequence[str], folder: Path, names: Sequence[str], said: Path, env: Mapping[str, str]) -> list[Op]:
    """Run a program to the end of all its children; what they did to these names of `folder`, and wrote to `said`."""
    if shutil.which("strace") is None:
        raise CannotTrace("no strace on PATH")
    out = said.with_name("trace")
    watched = [str(folder), *(str(folder / name) for name in names), str(said)]
    command = ["strace", "-f", "-qq", "-y", "-xx", "-s", str(1 << 20), "-e", f"trace={CALLS}", "-e", "signal=none"]
    command += ["-o", str(out), *(word for path in watched for word in ("-P", path))]
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise CannotTrace(f"strace may not trace here: {probe.stderr.strip()}")
    subprocess.run([*command, *argv], env=dict(env), check=True, timeout=300, stdout=subprocess.DEVNULL)
    try:
        with out.open() as lines:
            return list(_ops(lines, folder, names, said))
    finally:
        out.unlink()


_CALL = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FD = re.compile(r"^(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_RESULT = re.compile(r"\) += (-?\d+)")


def _ops(lines: Iterable[str], folder: Path, names: Sequence[str], said: Path) -> Iterator[Op]:
    """The calls that succeeded, in the order in which they ended: only then has anybody a right to rely on them.

    A write counts from its beginning, because a disk may have it before the caller hears of it.
    """
    begun: dict[str, str] = {}
    known = {str(folder / name): name for name in names}
    for line in lines:
        if match := _CALL.match(line):
            rest = match["rest"]
            if rest.endswith("<unfinished ...>"):
                begun[match["pid"]] = rest.removesuffix("<unfinished ...>")
                continue
        elif match := _RESUMED.match(line):
            rest = begun.pop(match["pid"], "") + match["rest"]
        else:
            continue
        result = _RESULT.findall(rest)
        if result and int(result[-1]) >= 0:
            yield from _op(match["call"], rest, int(result[-1]), known, folder, said)


def _op(call: str, rest: str, result: int, known: Mapping[str, str], folder: Path, said: Path) -> Iterator[Op]:
    strings = [bytes.fromhex(text.replace("\\x", "")) for text, _ in _STRING.findall(rest)]
    paths = [os.fsdecode(text) for text in strings]
    fd = _FD.match(rest)
    path = os.fsdecode(bytes.fromhex(fd[1].replace("\\x", ""))) if fd else ""
    path = path.removesuffix("(deleted)")
    name = known.get(path)
    match call:
        case "open" | "openat" | "creat":
            if "O_CREAT" in rest and (made := known.get(paths[0])) is not None:
                yield Op("make", made)
        case "write" | "pwrite64" if path == str(said):
            yield Op("say", "", data=strings[0])
        case "pwrite64" if name is not None:
            assert result == len(strings[0]), rest[:200]
            yield Op("write", name, int(rest.rpartition(")")[0].rpartition(",")[2]), strings[0])
        case "ftruncate" if name is not None:
            yield Op("truncate", name, int(rest.rpartition(")")[0].rpartition(",")[2]))
        case "fsync" | "fdatasync" if name is not None:
            yield Op("sync", name)
        case "fsync" | "fdatasync" if path == str(folder):
            yield Op("sync", "")
        case "unlink" | "unlinkat" if (gone := known.get(paths[0])) is not None:
            yield Op("remove", gone)
        case "rename" | "renameat" | "renameat2" if set(paths) & set(known):
            raise AssertionError(f"a rename that is not understood: {paths}")
        case "fallocate" if name is not None:
            pass  # SQLite's size hint: no data
        case "fdatasync" | "fsync" | "write" | "pwrite64" | "ftruncate" | "unlink" | "unlinkat" | "rename":
            pass
        case _ if name is not None:
            raise AssertionError(f"a call that is not understood: {call}({rest[:80]}")


# --------------------------------------------------------------------------------------------------------- the disk


@dataclass
class _File:
    synced: bytes = b""
    since: list[Op] = field(default_factory=list)


@dataclass
class Disk:
    """Files, and what of them is safe."""

    files: dict[str, _File] = field(default_factory=dict)
    """By the name that the processes see."""
    safe: dict[str, _File] = field(default_factory=dict)
    """Names that the folder's last fsync has."""
    since: list[tuple[str, str, _File | None]] = field(default_factory=list)
    """(kind, name, file) of names that were made or removed since."""

    def do(self, op: Op) -> None:
        """Apply one operation."""
        match op.kind:
            case "make" if op.name not in self.files:
                self.files[op.name] = _File()
                self.since.append(("make", op.name, self.files[op.name]))
            case "remove" if op.name in self.files:
                del self.files[op.name]
                self.since.append(("remove", op.name, None))
            case "write" | "truncate" if op.name in self.files:
                self.files[op.name].since.append(op)
            case "sync" if op.name == "":
                self.safe, self.since = dict(self.files), []
            case "sync" if op.name in self.files:
                file = self.files[op.name]
                file.synced, file.since = contents(file.synced, file.since), []

    def cut(self, dice: random.Random) -> dict[str, bytes]:
        """What is found when the power is back."""
        names = dict(self.safe)
        for kind, name, file in self.since[: dice.randint(0, len(self.since))]:
            if file is not None and kind == "make":
                names[name] = file
            else:
                names.pop(name, None)
        return {name: _torn(file, dice) for name, file in names.items()}


def contents(begin: bytes, ops: Iterable[Op]) -> bytes:
    """A file after these operations."""
    data = bytearray(begin)
    for op in ops:
        if op.kind == "truncate":
            data = data[: op.at] + bytes(max(0, op.at - len(data)))
        else:
            data += bytes(max(0, op.at - len(data)))
            data[op.at : op.at + len(op.data)] = op.data
    return bytes(data)


def _torn(file: _File, dice: random.Random) -> bytes:
    """The synced bytes with some of what came since: nothing, all, a beginning, any writes, any sectors."""
    match dice.choice(("nothing", "all", "beginning", "some", "sectors")):
        case "nothing":
            kept: list[Op] = []
        case "all":
            kept = file.since
        case "beginning":
            kept = file.since[: dice.randint(0, len(file.since))]
        case "some":
            kept = [op for op in file.since if dice.random() < 0.5]
        case _:
            kept = [part for op in file.since for part in _sectors(op) if dice.random() < 0.5]
    return contents(file.synced, kept)


def _sectors(op: Op) -> Iterator[Op]:
    if op.kind != "write":
        yield op
        return
    at, end = op.at, op.at + len(op.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        yield Op("write", op.name, at, op.data[at - op.at : stop - op.at])
        at = stop
