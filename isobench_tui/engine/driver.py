"""The program inside the container (or the process tree): setup, patch, server, trials. `driver.py JOB.json`.

It reads `job.json`, writes `events.jsonl` and the logs, and exits as `engine/job.py` says. It runs where nothing of
ours is installed, so it imports the standard library only, is one file, and runs on Python 3.8.

Nothing a child does may outlive or outwait it: children write straight to their logs, every wait has a deadline on
the boot clock (which counts a suspended host), orphans come back to it (subreaper), and at the end all are killed.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import http.client
import io
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

EXIT_OK, EXIT_FAILED, EXIT_FULL, EXIT_DEADLINE, EXIT_STOPPED = 0, 1, 75, 124, 143
FULL_BYTES = 1 << 20
"""With less than this a disk is full: what fails then may fail by it."""
LOOK_S = 0.25
"""How often the disks are looked at."""
TRIMMED_FOLDERS = ("tests", "docs", "benchmarks", "examples")
COMPILED_SUFFIXES = (".cu", ".cuh", ".cpp", ".cc", ".c", ".h", ".hpp", ".pyx")
COMPILED_NAMES = ("CMakeLists.txt", "setup.py")
SCRIPT_PLACES = ("/workspace", "/opt/vllm_baseline", "/opt/vllm_bench", "/vllm-workspace", "/app/vllm", "/vllm")
"""Where published images keep vLLM's source tree, for `benchmarks/benchmark_*.py`."""
CACHED = re.compile(
    rb"^vllm:(?:gpu_)?prefix_cache_(queries|hits)(?:_total)?(?:\{[^}\n]*\})? (\d{1,18}(?:\.\d+)?(?:e\+\d\d?)?)\s*$",
    re.M,
)
"""Counters of /metrics in tokens: `vllm:gpu_prefix_cache_queries` in 0.8, `vllm:prefix_cache_queries_total` since."""
MOVED = re.compile(r"DEPRECATED: This script has been moved\b.*")
"""All that benchmark_serving.py, benchmark_throughput.py and benchmark_latency.py do from vLLM 0.10.2 on."""
IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w[\w.]*)(?:[ \t]+import[ \t]+\(?([\w, \t]*))?", re.M)
PR_SET_CHILD_SUBREAPER = 36
KILL_WAIT = 10.0
"""Seconds that SIGKILL gets before what is left (uninterruptible in the kernel) is reported instead."""

PROBE = r"""
import importlib.machinery, importlib.util, json, os, re, sys

out = {"executable": sys.executable, "python": sys.version.split()[0], "init": None, "version": None, "versions": {}}
spec = importlib.util.find_spec("vllm")

def written(home):
    for name in ("_version.py", "version.py", "__init__.py"):
        try:
            with open(os.path.join(home, name), errors="replace") as f:
                found = re.search(r"^(?:__version__|version)\b[^'\"\n]*=\s*['\"]([^'\"]+)", f.read(), re.M)
        except OSError:
            continue
        if found:
            return found.group(1)

def origin(name):
    parts, found, paths = name.split("."), spec, spec.submodule_search_locations
    for i in range(1, len(parts)):
        if not paths:
            return None
        found = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), list(paths))
        if found is None:
            return None
        if found.origin is None:
            paths = [os.path.join(p, parts[i]) for p in paths]
        else:
            paths = found.submodule_search_locations
    return found.origin

if spec is not None and spec.origin and spec.submodule_search_locations:
    out["init"] = spec.origin
    home = os.path.dirname(spec.origin)
    ours = None
    try:
        import importlib.metadata
        for name in ("vllm", "torch", "transformers"):
            try:
                dist = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            out["versions"][name] = dist.version
            place = os.path.realpath(str(dist.locate_file("")))
            if name == "vllm" and place == os.path.realpath(os.path.dirname(home)):
                ours = dist.version
    except ImportError:
        pass
    out["version"] = ours or written(home) or out["versions"].get("vllm")
    out["origins"] = {name: origin(name) for name in sys.argv[2:]}
with os.fdopen(int(sys.argv[1]), "w") as f:
    json.dump(out, f)
"""
"""Says where `vllm` would be imported from and what is installed, importing neither vllm nor torch.

Metadata counts only where it lies beside the package found: an overlay on PYTHONPATH has its own version file.
"""


def boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Failed(Exception):
    """A step failed: failure class, one sentence, the log that shows it, and the exit code that it means."""

    def __init__(self, failure: str, reason: str, file: Optional[str] = None, code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.failure, self.reason, self.file, self.code = failure, reason, file, code


class Stopped(Exception):
    """SIGTERM or SIGINT came."""


class Events:
    """`events.jsonl`: one object a line, each written whole and at once."""

    def __init__(self, path: str) -> None:
        self._fd = open_append(path)
        self._torn = False
        self.lost = False
        """An event had no room."""

    def emit(self, event: str, **fields: Any) -> None:
        line = json.dumps(dict(event=event, at=time.time(), boot=boot(), **fields)).encode() + b"\n"
        line = b"\n" * self._torn + line
        try:
            while line:
                line = line[os.write(self._fd, line) :]
            self._torn = False
        except OSError as error:
            self._torn = self.lost = True  # a full disk must not end a measurement; the exit code still tells
            with contextlib.suppress(OSError):  # it may be the same disk
                sys.stderr.write("driver: %s not written: %s\n" % (event, error))


def open_append(path: str) -> int:
    """Open a file for appending; a symlink or a FIFO that a child put there is refused (OSError)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("%s is not a regular file" % path)
    os.set_blocking(fd, True)
    return fd


class Disks:
    """The file systems that a job writes to, and whether one of them was ever seen full.

    They are looked at all the time, as a failure for want of space may show when there is space again.
    """

    def __init__(self, *paths: str) -> None:
        self.full = False
        self.due = 0.0
        """Boot clock, when they are to be looked at again."""
        self._paths = paths

    def look(self) -> None:
        self.full = self.full or any(map(is_full, self._paths))
        self.due = boot() + LOOK_S


def is_full(path: str) -> bool:
    """Whether next to nothing can be written there; False where the path cannot be looked at.

    By what anybody may take, also for root: what ext4 keeps for its own index it calls free, and gives to nobody.
    """
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < FULL_BYTES


def tail(path: str, since: int = 0) -> str:
    """Last line with text that was written to a log after byte `since`."""
    with open(path, "rb") as f:
        f.seek(max(since, os.fstat(f.fileno()).st_size - 4096))
        lines = f.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def read_text(path: str) -> str:
    """A source file; empty where there is none, or none that can be read."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as f:
        return f.read()
    return ""


def how(code: int) -> str:
    names = {int(s): s.name for s in signal.Signals}
    return "exit code %d" % code if code >= 0 else "signal %d (%s)" % (-code, names.get(-code, "?"))


def ending(code: Optional[int]) -> Dict[str, Any]:
    """The event fields for a Popen-style code."""
    if code is None:
        return {"exit_code": None, "signal": None}
    return {"exit_code": code if code >= 0 else None, "signal": -code if code < 0 else None}


# --------------------------------------------------------------------------------------------------- processes


class Processes:
    """Starts, awaits and kills children. The only place that waits, so that signals and deadlines always work."""

    def __init__(self, attempt: str, engine: str, disks: Disks) -> None:
        self.disks = disks
        self.armed = True
        """False once the driver is cleaning up: then a signal no longer interrupts."""
        self.stopping = False
        self.codes: Dict[int, int] = {}
        self._children: Dict[int, "subprocess.Popen[bytes]"] = {}
        self._grouped: Set[int] = set()
        self._mark = b"ISOBENCH_ATTEMPT=" + attempt.encode() if engine == "process" else None
        keep = os.environ.pop("ISOBENCH_KEEP_FDS", "")
        # The locks that guard the GPUs shall live as long as anything that may use them; the last one is a mark.
        self._keep = tuple(int(fd) for fd in keep.split(",") if fd)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with contextlib.suppress(Exception):  # no ctypes, no prctl: then only the environment marks find orphans
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def _stop(self, *_: Any) -> None:
        self.stopping = True

    def spawn(
        self,
        argv: Sequence[str],
        log: int,
        env: Dict[str, str],
        cwd: str,
        fds: Tuple[int, ...] = (),
        grouped: bool = False,
    ) -> int:
        """Start a child in a session of its own. `grouped`: when it ends, what it left in its group is killed."""
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=cwd,
            pass_fds=fds + self._keep,
            start_new_session=True,
        )
        self.codes.pop(child.pid, None)
        self._children[child.pid] = child
        if grouped:
            self._grouped.add(child.pid)
        return child.pid

    def pause(self, seconds: float, sock: Optional[socket.socket] = None, write: bool = False) -> bool:
        """Wait for a signal, a child's end, `sock` or `seconds` (at most LOOK_S). True if `sock` is ready."""
        self._check()
        reads: List[Any] = [self._wake] + ([sock] if sock and not write else [])
        wait = max(0.0, min(seconds, self.disks.due - boot()))
        ready, writable, _ = select.select(reads, [sock] if sock and write else [], [], wait)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._wake in ready or boot() >= self.disks.due:
            self.disks.look()  # at a child's end at once: what ended it may soon be over
        self._reap()
        self._check()
        return bool(writable) or sock in ready

    def _check(self) -> None:
        if self.stopping and self.armed:
            raise Stopped()

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self._grouped:  # before it is reaped, so that the group's number is still its own
                self._grouped.discard(pid)
                send(pid, signal.SIGKILL, group=True)
            os.waitpid(pid, 0)
            child = self._children.pop(pid, None)
            if child is not None:
                child.returncode = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                self.codes[pid] = child.returncode

    def wait(self, pid: int, until: float) -> Optional[int]:
        """Code of a child; None once the boot clock passes `until`."""
        while pid not in self.codes:
            left = until - boot()
            if left <= 0:
                return None
            self.pause(left)
        return self.codes[pid]

    def end(self, pid: int, grace: float) -> Optional[int]:
        """SIGTERM a child's group, then SIGKILL it."""
        for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_WAIT)):
            if pid not in self.codes:
                send(pid, signum, group=True)
                self.wait(pid, boot() + seconds)
        return self.codes.get(pid)

    def others(self) -> List[int]:
        """Every living process that descends from us or (process engine) carries our attempt in its environment."""
        parents: Dict[int, int] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open("/proc/%s/stat" % name, "rb") as f:
                    state, parent = f.read().rpartition(b")")[2].split()[:2]
                    if state not in (b"Z", b"X"):
                        parents[int(name)] = int(parent)
        family = {os.getpid()}
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in family} - family
            family |= more
            grown = bool(more)
        if self._mark:
            family |= {pid for pid in parents if self._marked(pid)}
        return sorted(family - {os.getpid(), 1})

    def _marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError), open("/proc/%d/environ" % pid, "rb") as f:
            return self._mark in f.read().split(b"\0")
        return False

    def sweep(self, grace: float) -> List[int]:
        """SIGTERM everything, after `grace` SIGKILL it, again until nothing is left. Returns what would not die."""
        for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_WAIT)):
            until = boot() + seconds
            told: Set[int] = set()
            left = self.others()
            while left and boot() < until:
                for pid in left:
                    if pid not in told or signum == signal.SIGKILL:
                        send(pid, signum)
                        send(pid, signal.SIGCONT)
                told.update(left)
                self.pause(0.1)
                left = self.others()
        return self.others()


def send(pid: int, signum: int, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, signum)


class _Canned:
    """What HTTPResponse needs of a socket whose answer is already here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def http_get(processes: Processes, port: int, path: str, until: float) -> Tuple[int, bytes]:
    """GET from our own loopback: status and body. Raises OSError; a server that drips bytes cannot hold it up."""

    def ready(sock: socket.socket, write: bool) -> None:
        while not processes.pause(until - boot(), sock, write):
            if boot() >= until:
                raise OSError("no answer in time")

    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        ready(sock, True)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        sock.send(("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % (path, port)).encode())
        data = b""
        while len(data) < 1 << 22:
            ready(sock, False)
            part = sock.recv(1 << 16)
            if not part:
                break
            data += part
    canned: Any = _Canned(data)
    response = http.client.HTTPResponse(canned)
    try:
        response.begin()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError("not an HTTP answer: %r" % error) from error


def free_port() -> int:
    """A port below the ephemeral range: no outgoing connection takes it, and polling it cannot connect to itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low = int(f.read().split()[0])
    for _ in range(500):
        port = random.randrange(10000, low) if low > 11000 else 0
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("0.0.0.0", port))
            return int(sock.getsockname()[1])
    raise Failed("harness_misconfig", "no free port found for the server")


# ------------------------------------------------------------------------------------------------------ versions

_VERSION = re.compile(
    r"v?(?P<release>\d+(?:\.\d+)*)(?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?:[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>\d*))?(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?(?:\+[\w.-]*)?$",
    re.I,
)


def version_key(text: str) -> Optional[Tuple[Any, ...]]:
    """Sort key in the order of PEP 440 (no epochs; a local part does not count); None if it is no version."""
    found = _VERSION.match(text.strip())
    if found is None:
        return None
    release = [int(part) for part in found["release"].split(".")]
    while release and release[-1] == 0:
        release.pop()
    ranks = {"a": 0, "alpha": 0, "b": 1, "beta": 1}
    pre = (9, 0)
    if found["pre"]:
        pre = (ranks.get(found["pre"].lower(), 2), int(found["pre_n"] or 0))
    elif found["dev"] and not found["post"]:
        pre = (-1, 0)
    post = int(found["post_n"] or 0) if found["post"] else -1
    return tuple(release), pre, post, (0, int(found["dev_n"] or 0)) if found["dev"] else (1, 0)


def is_development(text: Optional[str]) -> bool:
    """True where a version says nothing about which release's code it is."""
    found = _VERSION.match((text or "").strip())
    return found is None or found["dev"] is not None


# --------------------------------------------------------------------------------------------------------- patch


def refused(reason: str) -> Failed:
    return Failed("patch_not_applied", reason)


class Hunk:
    """One `@@` block: the lines before and after, where it says it belongs, and whether it must touch an end."""

    def __init__(self, old_start: int, new_start: int) -> None:
        self.old: List[bytes] = []
        self.new: List[bytes] = []
        self.want = max(new_start - 1, 0)
        self.at_start = old_start <= 1
        self.context_after = 0

    def place(self, lines: List[bytes], floor: int) -> int:
        """Index of the stated lines in `lines`, at or after `floor`; as strict as `git apply`, and never a guess."""
        size = len(self.old)
        if self.at_start or not self.context_after:
            index = 0 if self.at_start else len(lines) - size
            fits = floor <= index and lines[index : index + size] == self.old
            if fits and (self.context_after or index + size == len(lines)):
                return index
            raise ValueError("does not match the %s of the file" % ("start" if self.at_start else "end"))
        if self.want >= floor and lines[self.want : self.want + size] == self.old:
            return self.want
        first = self.old[0]
        found = [
            i for i in range(floor, len(lines) - size + 1) if lines[i] == first and lines[i : i + size] == self.old
        ]
        if len(found) != 1:
            raise ValueError("matches in %d places, none of them where it says" % len(found))
        return found[0]


class Change:
    """What a diff does to one file. `first` and `last` are its lines in the diff."""

    def __init__(self, first: int) -> None:
        self.first, self.last = first, first
        self.old: Optional[str] = None
        self.new: Optional[str] = None
        self.hunks: List[Hunk] = []
        self.copied = False
        self.moved = False
        self.binary = False
        self.modes: List[str] = []

    @property
    def paths(self) -> List[str]:
        return sorted({path for path in (self.old, self.new) if path})

    @property
    def changes_nothing(self) -> bool:
        return not self.hunks and not self.binary and not self.moved and self.new is not None


def lines_of(data: bytes) -> List[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def diff_path(text: bytes, strip: bool = True) -> Optional[str]:
    """A file name of a diff without its first component (`-p1`); None for /dev/null."""
    text = text.rstrip(b"\r\n")
    try:
        quoted = text.startswith(b'"')
        path = (codecs.escape_decode(text[1 : text.rindex(b'"')])[0] if quoted else text.split(b"\t")[0]).decode(
            "utf-8"
        )
    except ValueError:
        raise refused("the diff names a file that is not UTF-8: %r" % text[:100]) from None
    if path == "/dev/null":
        return None
    return path.split("/", 1)[-1] if strip and not path.startswith("/") else path


class DiffReader:
    """Reads git's diffs and plain unified ones, with hunks counted exactly. Text between files is skipped."""

    def __init__(self, data: bytes) -> None:
        self.lines = lines_of(data)
        self.at = 0

    def _starts(self, *prefixes: bytes) -> bool:
        for offset, prefix in enumerate(prefixes):
            if self.at + offset >= len(self.lines) or not self.lines[self.at + offset].startswith(prefix):
                return False
        return True

    def changes(self) -> List[Change]:
        found: List[Change] = []
        while self.at < len(self.lines):
            if self._starts(b"diff --git "):
                found.append(self._git())
            elif self._starts(b"--- ", b"+++ ", b"@@ -"):
                found.append(Change(self.at))
                self._body(found[-1])
            elif self._starts(b"@@ -"):
                raise refused("line %d of the diff is a hunk without a file" % (self.at + 1))
            else:
                self.at += 1
                continue
            found[-1].last = self.at
        return found

    def _git(self) -> Change:
        change = Change(self.at)
        header = self.lines[self.at][len(b"diff --git ") :].rstrip(b"\r\n")
        # With no ---/+++ below, both names are equal, so the line's halves are.
        half = header[: len(header) // 2]
        change.old = change.new = diff_path(half) if header[len(half) + 1 :][2:] == half[2:] else ""
        self.at += 1
        while self.at < len(self.lines) and not self._starts(b"diff --git ") and not self._starts(b"--- ", b"+++ "):
            line = self.lines[self.at]
            word, _, rest = line.partition(b" ")
            if word in (b"rename", b"copy"):
                side, _, name = rest.partition(b" ")
                change.copied, change.moved = word == b"copy", True
                setattr(change, "old" if side == b"from" else "new", diff_path(name, strip=False))
            elif word in (b"old", b"new", b"deleted") and b"mode " in rest:
                change.modes.append(rest.split()[-1].decode("ascii", "replace"))
                if rest.startswith(b"file "):
                    setattr(change, "old" if word == b"new" else "new", None)
            elif line.startswith(b"index "):
                change.modes += [part.decode("ascii", "replace") for part in rest.split()[1:]]
            elif line.startswith((b"GIT binary patch", b"Binary files ")):
                change.binary = True
            elif not line.startswith((b"similarity ", b"dissimilarity ")) and not change.binary:
                break
            self.at += 1
        if self._starts(b"--- ", b"+++ ") and not change.binary:
            self._body(change)
        if change.old == "" or change.new == "":
            raise refused("line %d of the diff does not name one file" % (change.first + 1))
        return change

    def _body(self, change: Change) -> None:
        change.old = diff_path(self.lines[self.at][4:])
        change.new = diff_path(self.lines[self.at + 1][4:])
        self.at += 2
        while self._starts(b"@@ -"):
            change.hunks.append(self._hunk())
        if not change.hunks:
            raise refused("line %d of the diff: a file without hunks" % (change.first + 1))

    def _hunk(self) -> Hunk:
        where = self.at + 1
        found = re.match(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", self.lines[self.at])
        if found is None:
            raise refused("line %d of the diff: not a hunk header" % where)
        olds, news = (int(found[n]) if found[n] is not None else 1 for n in (2, 4))
        hunk = Hunk(int(found[1]), int(found[3]))
        self.at += 1
        last: List[List[bytes]] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            sign, text = line[:1], line[1:]
            if sign == b"\\":
                for side in last:
                    side[-1] = side[-1].rstrip(b"\n")
            elif len(hunk.old) == olds and len(hunk.new) == news:
                break
            elif sign in (b" ", b"\n", b"-", b"+"):
                last = [hunk.old] if sign == b"-" else [hunk.new] if sign == b"+" else [hunk.old, hunk.new]
                for side in last:
                    side.append(text if sign != b"\n" else b"\n")
                hunk.context_after = hunk.context_after + 1 if len(last) == 2 else 0
            else:
                break
            self.at += 1
        if (len(hunk.old), len(hunk.new)) != (olds, news):
            raise refused("line %d of the diff: the hunk's line counts are wrong" % where)
        return hunk


class Patch:
    """A diff against a folder: what it touches, and what every touched file must hold once it is applied."""

    def __init__(self, data: bytes, root: str) -> None:
        self.root = os.path.realpath(root)
        reader = DiffReader(data)
        changes = reader.changes()
        dropped = [change for change in changes if self._droppable(change)]
        self.changes = [change for change in changes if change not in dropped]
        self.trimmed = sorted({path for change in dropped for path in change.paths})
        self.compiled = sorted(
            {path for change in self.changes for path in change.paths if is_compiled(path)},
        )
        self.empty = all(change.changes_nothing for change in self.changes)
        gone = {n for change in dropped for n in range(change.first, change.last)}
        self.data = b"".join(line for n, line in enumerate(reader.lines) if n not in gone) if gone else data
        self.expected: Dict[str, Optional[bytes]] = {}

    def _droppable(self, change: Change) -> bool:
        path = change.old or change.new or ""
        top = path.split("/")[0]
        there = os.path.join(self.root, path if change.old else top)
        return top in TRIMMED_FOLDERS and ".." not in path.split("/") and not os.path.lexists(there)

    def expect(self) -> None:
        """Work out `expected` from the files as they are. Raises Failed where the diff does not fit them."""
        for change in self.changes:
            where = change.new or change.old or ""
            if change.binary:
                raise refused("%s: a binary change, which the result could not be checked against" % where)
            if any(mode[:2] in ("12", "16") for mode in change.modes):
                raise refused("%s: symbolic links and submodules are not applied" % where)
            for path in change.paths:
                self._safe(path)
            before = self._now(change.old) if change.old else b""
            if before is None:
                raise refused("%s: not in %s" % (change.old, self.root))
            if change.new and change.new != change.old and self._now(change.new) is not None:
                raise refused("%s: exists already" % change.new)
            after = self._apply(change, before, where)
            if change.old and not change.copied:
                self.expected[change.old] = None
            if change.new:
                self.expected[change.new] = after
            elif after:
                raise refused("%s: lines are left in a file that the diff deletes" % where)

    def _apply(self, change: Change, before: bytes, where: str) -> bytes:
        lines, floor = lines_of(before), 0
        for number, hunk in enumerate(change.hunks, 1):
            try:
                index = hunk.place(lines, floor)
            except ValueError as error:
                raise refused("%s: hunk %d %s" % (where, number, error)) from None
            lines[index : index + len(hunk.old)] = hunk.new
            floor = index + len(hunk.new)
        return b"".join(lines)

    def _safe(self, path: str) -> None:
        parts = path.split("/")
        if path.startswith("/") or "\0" in path or {"", ".", "..", ".git"} & set(parts):
            raise refused("%r: not a path inside the tree" % path)
        full = os.path.join(self.root, path)
        parent = os.path.dirname(full)
        if os.path.realpath(parent) != parent:
            raise refused("%s: a symbolic link is on the way to it" % path)
        if os.path.lexists(full) and (os.path.islink(full) or not os.path.isfile(full)):
            raise refused("%s: not a regular file" % path)

    def _now(self, path: str) -> Optional[bytes]:
        return self.expected[path] if path in self.expected else self._read(path)

    def _read(self, path: str) -> Optional[bytes]:
        try:
            with open(os.path.join(self.root, path), "rb") as f:
                return f.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # a name that is too long for any file
            raise refused("%.200s: %s" % (path, error.strerror)) from None

    def prove(self) -> List[Dict[str, Optional[str]]]:
        """Compare the tree with `expected`: path and sha256 of each file. Raises Failed at the first difference."""
        files: List[Dict[str, Optional[str]]] = []
        for path, data in sorted(self.expected.items()):
            self._safe(path)
            now = self._read(path)
            if now != data:
                state = "is missing" if now is None else "is still there" if data is None else "is not as expected"
                raise refused("%s %s after the patch" % (path, state))
            files.append({"path": path, "sha256": None if data is None else hashlib.sha256(data).hexdigest()})
            self._forget_bytecode(path)
        return files

    def _forget_bytecode(self, path: str) -> None:
        """Drop cached bytecode: unchecked-hash files, or one of the same second and size, would hide the patch."""
        folder, name = os.path.split(os.path.join(self.root, path))
        cache = os.path.join(folder, "__pycache__")
        if name.endswith(".py") and os.path.isdir(cache) and not os.path.islink(cache):
            for cached in os.listdir(cache):
                if cached.startswith(name[:-2]) and cached.endswith(".pyc"):
                    os.unlink(os.path.join(cache, cached))

    def modules(self, package: str) -> Dict[str, str]:
        """Module name -> path of every touched Python file of the package (a folder of the root) that exists now."""
        found = {}
        for path, data in self.expected.items():
            if data is not None and path.endswith(".py") and path.startswith(package + "/"):
                name = path[: -len(".py")].replace("/", ".")
                found[name[: -len(".__init__")] if name.endswith(".__init__") else name] = path
        return found


def is_compiled(path: str) -> bool:
    top, name = path.split("/", 1)[0], path.rsplit("/", 1)[-1]
    if top in TRIMMED_FOLDERS:
        return False
    return top == "csrc" or name in COMPILED_NAMES or name.endswith(COMPILED_SUFFIXES)


# -------------------------------------------------------------------------------------------------------- driver


class Setup:
    """Interpreter, override, setup commands, patch. What it finds is the state that the measuring part reads."""

    def __init__(self, job: Dict[str, Any], events: Events, processes: Processes) -> None:
        self.job, self.events, self.processes = job, events, processes
        self.run: str = job["run"]
        self.cwd: str = job["tree"] or os.getcwd()
        self.env = dict(os.environ)
        self.env.update(job["env"])
        if job["tree"]:
            self.env["PYTHONPATH"] = ":".join(filter(None, [job["tree"], self.env.get("PYTHONPATH")]))
        self.env.update(PYTHONUNBUFFERED="1", ISOBENCH_ATTEMPT=job["attempt"])
        self.log = os.path.join(self.run, "setup.log")
        self.until = 0.0
        self.python = ""
        self.root = ""
        self.version: Optional[str] = None
        self.model: str = job["model"]

    def all(self, until: float) -> None:
        self.until = until
        os.close(open_append(self.log))
        self._find_python()
        for index, command in enumerate(self.job["setup"]):
            self._command(index, command)
        if self.job["setup"]:
            self._find_python()  # a command may have installed other versions
        self._override()
        if self.job["dataset"]:
            self._dataset()
        if self.job["patch"]:
            self._patch()

    def _dataset(self) -> None:
        """Raises Failed where the data set is not the one that the campaign was submitted with."""
        path, expected = self.job["dataset"]["path"], self.job["dataset"]["sha256"]
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as f:
                for part in iter(lambda: f.read(1 << 22), b""):
                    digest.update(part)
                    self.processes.pause(0)
                    if boot() >= self.until:
                        raise self.late()
        except OSError as error:
            raise Failed("harness_misconfig", "data set %s: %s" % (path, error.strerror)) from None
        found = digest.hexdigest()
        self.events.emit("dataset", path=path, sha256=found)
        if found != expected:
            reason = "data set %s has sha256 %s, not %s as it was submitted" % (path, found[:12], expected[:12])
            raise Failed("harness_misconfig", reason)

    def say(self, line: str) -> None:
        """A line of our own in setup.log, as the evidence for what ends the setup."""
        log = open_append(self.log)
        os.write(log, line.encode(errors="backslashreplace") + b"\n")
        os.close(log)

    def late(self) -> Failed:
        return Failed("timeout", "setup did not end within its deadline", "setup.log", EXIT_DEADLINE)

    def _command_line(self, argv: Sequence[str], cwd: str, env: Dict[str, str], fds: Tuple[int, ...] = ()) -> int:
        log = open_append(self.log)
        try:
            pid = self.processes.spawn(argv, log, env, cwd, fds)
        finally:
            os.close(log)
        code = self.processes.wait(pid, self.until)
        if code is None:
            raise self.late()
        return code

    def _probe(self, python: str, modules: Sequence[str] = ()) -> Dict[str, Any]:
        """What PROBE says, run as the server will be. Raises ValueError with the interpreter's last words."""
        since = os.path.getsize(self.log)
        with tempfile.TemporaryFile(dir=self.run) as answer:
            fd = answer.fileno()
            argv = [python, "-c", PROBE, str(fd), *modules]
            code = self._command_line(argv, self.cwd, self.env, (fd,))
            if code:
                raise ValueError(tail(self.log, since) or how(code))
            answer.seek(0)
            found: Dict[str, Any] = json.loads(answer.read().decode())
        return found

    def _find_python(self) -> None:
        tried: List[str] = []
        for name in self.job["pythons"]:
            python = shutil.which(name, path=self.env.get("PATH"))
            try:
                found = self._probe(python) if python else {}
                problem = "" if found.get("init") else "finds no vllm" if python else "not found"
            except (ValueError, OSError) as error:
                problem = str(error)
            tried.append("%s: %s" % (name, problem or "imports vllm"))
            if python and not problem:
                self.python, self.version = python, found["version"]
                self.root = os.path.dirname(os.path.dirname(os.path.realpath(found["init"])))
                self.events.emit(
                    "python",
                    executable=python,
                    root=self.root,
                    vllm_version=self.version,
                    versions=dict(found["versions"], python=found["python"]),
                    tried=tried,
                )
                return
        raise Failed("env_broken", "no interpreter imports vllm (%s)" % "; ".join(tried), "setup.log")

    def _command(self, index: int, command: str) -> None:
        log = open_append(self.log)
        os.write(log, b"$ " + command.encode() + b"\n")
        since = os.fstat(log).st_size
        os.close(log)
        start = boot()
        code = self._command_line(["/bin/sh", "-c", command], self.root, self.env)
        self.events.emit("setup_command", index=index, command=command, exit_code=code, seconds=boot() - start)
        if code:
            said = tail(self.log, since)
            reason = "setup command %d ended with %s%s" % (index, how(code), ": " + said if said else "")
            raise Failed("env_broken", reason, "setup.log")

    def _override(self) -> None:
        override = self.job["override"]
        if not override:
            return
        limit, decided = override["before_vllm"], override["decided"]
        if decided is not None:
            applied, reason = decided, "the task says so"
        elif limit is None:
            applied, reason = True, "always"
        else:
            key, bound = version_key(self.version or ""), version_key(limit)
            if bound is None:
                raise Failed("harness_misconfig", "before_vllm = %r is not a version" % limit)
            if key is None or is_development(self.version):
                raise Failed(
                    "harness_misconfig",
                    "vLLM %s cannot be compared with %s: the task needs `override = true` or `override = false`"
                    % (self.version or "of unknown version", limit),
                )
            applied = key < bound
            reason = "vLLM %s is %s %s" % (self.version, "older than" if applied else "not older than", limit)
        if applied:
            self.model = override["use"]
        self.events.emit("override", model=override["model"], use=override["use"], applied=applied, reason=reason)

    def _patch(self) -> None:
        event: Dict[str, Any] = {"applied": False, "method": None}
        event.update({key: [] for key in ("files", "trimmed", "compiled", "imported", "not_imported")})
        try:
            self._apply(event)
        except Failed as error:
            event.update(applied=False, failure=error.failure, reason=error.reason)
            if event["not_imported"]:
                event["failure"] = "patched_tree_not_imported"
            raise
        finally:
            self.events.emit("patch", **event)

    def _apply(self, event: Dict[str, Any]) -> None:
        with open(self.job["patch"]["path"], "rb") as f:
            data = f.read()
        if hashlib.sha256(data).hexdigest() != self.job["patch"]["sha256"]:
            raise refused("the patch is not the one of the job: its sha256 differs")
        patch = Patch(data, self.root)
        event.update(trimmed=patch.trimmed, compiled=patch.compiled)
        if patch.empty:
            event.update(
                failure="patch_empty", reason="the patch changes nothing" + " that is here" * bool(patch.trimmed)
            )
            return
        if patch.compiled:
            names = ", ".join(patch.compiled)
            raise Failed("patch_not_compiled", "compiled sources would not take effect: " + names)
        patch.expect()
        event["method"] = self._run_tool(patch)
        event.update(files=patch.prove(), applied=True)
        modules = patch.modules("vllm")
        try:
            origins = self._probe(self.python, sorted(modules))["origins"] if modules else {}
        except ValueError as error:
            raise refused("after the patch the interpreter fails: %s" % error) from None
        for name, path in sorted(modules.items()):
            same = os.path.realpath(origins.get(name) or "") == os.path.join(patch.root, path)
            event["imported" if same else "not_imported"].append(path)
        if event["not_imported"]:
            raise refused("the server would not import the patched %s" % ", ".join(event["not_imported"]))

    def _run_tool(self, patch: Patch) -> str:
        """Apply with git, else with patch, a dry run first; the tool must accept it as strictly as `expect` did."""
        path = self.job["patch"]["path"]
        if patch.trimmed:
            path = os.path.join(self.run, "patch-trimmed.diff")
            fd = open_append(path)
            os.ftruncate(fd, 0)
            with os.fdopen(fd, "wb") as f:
                f.write(patch.data)
        search = self.env.get("PATH")
        git, other = shutil.which("git", path=search), shutil.which("patch", path=search)
        if git:
            command = [git, "apply", "--whitespace=nowarn"]
            steps = [[*command, "--check", path], [*command, path]]
        elif other:
            command = [other, "-p1", "-F0", "--batch", "--no-backup-if-mismatch", "-i", path]
            steps = [[*command, "--dry-run"], command]
        else:
            raise refused("neither git nor patch is in the image")
        env = {
            "PATH": search or os.defpath,
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            # Inside a repository's subfolder git would return 0 and change nothing: it must find no repository,
            # neither above the root nor, broken or with a configuration of its own, in it.
            "GIT_CEILING_DIRECTORIES": os.path.dirname(patch.root),
            "GIT_DIR": "/dev/null",
        }
        for argv in steps:
            since = os.path.getsize(self.log)
            code = self._command_line(argv, patch.root, env)
            if code:
                raise Failed("patch_not_applied", tail(self.log, since) or how(code), "setup.log")
        return "git" if git else "patch"


class Client:
    """The measuring program: where it lies, what it is made of, and which options it knows."""

    def __init__(self, argv: Sequence[str], root: str) -> None:
        """`argv` is resolved: a script's path is absolute."""
        self.root = root
        self.script = next((token for token in argv[1:2] if token.endswith(".py")), None)
        bench = list(argv).index("bench") if "bench" in argv[:4] else None
        self.command = "" if self.script or bench is None else "".join(argv[bench + 1 : bench + 2])
        self.main = self.script or os.path.join(root, "vllm", "benchmarks", self.command + ".py")
        self._text: Optional[str] = None

    def check(self) -> None:
        """Raises Failed where the program cannot measure anything: not there, or only a word about where it went."""
        if self.command and not os.path.isfile(self.main):
            reason = "no `vllm bench %s` in this vLLM (looked for %s)" % (self.command, self.main)
            raise Failed("bench_script_missing", reason)
        text = read_text(self.main)
        moved = MOVED.search(text)
        if self.script and moved and "add_argument" not in text:
            line = text.count("\n", 0, moved.start()) + 1
            instead = re.search(r"^\s*(vllm bench \w+)\s*$", text, re.M)
            said = "%s:%d: %s" % (self.main, line, moved[0].rstrip(". "))
            said += "; it is now `%s`" % instead[1] if instead else ""
            raise Failed("bench_script_deprecated", said, "setup.log")

    def code(self) -> Tuple[List[str], str]:
        """Its files (a script with its neighbours, or vLLM's own), and one sha256 over their names and contents."""
        places = ("vllm/benchmarks", "vllm/entrypoints/cli")
        paths: List[str] = []
        tops = [os.path.dirname(self.script)] if self.script else [os.path.join(self.root, place) for place in places]
        for top in tops:
            for folder, folders, files in os.walk(top):
                folders[:] = [] if self.script else folders
                paths += [os.path.join(folder, name) for name in files if name.endswith(".py")]
        names = sorted(os.path.relpath(path, self.root) for path in paths if os.path.isfile(path))
        digest = hashlib.sha256()
        for name in names:
            with open(os.path.join(self.root, name), "rb") as f:
                digest.update(name.encode(errors="backslashreplace") + b"\0" + hashlib.sha256(f.read()).digest())
        return names, digest.hexdigest()

    def knows(self, option: str) -> bool:
        """Whether the option is written down in the program; True where there is no source to read.

        Running it with --help would import vllm, which takes longer than the rest of the setup.
        """
        if self._text is None:
            self._text = "\n".join(read_text(path) for path in self._sources())
        return not self._text or re.search(r"[\"']%s[\"']" % re.escape(option), self._text) is not None

    def _sources(self) -> List[str]:
        """The program, and what it imports from beside it, from vllm.benchmarks and of the engine's options."""
        found: List[str] = []
        waiting = [self.main]
        while waiting:
            path = waiting.pop()
            if os.path.isdir(path):
                waiting += [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".py")]
            elif path not in found and os.path.isfile(path):
                found.append(path)
                for module, names in IMPORT.findall(read_text(path)):
                    waiting += self._imported(os.path.dirname(path), module, names)
        return found

    def _imported(self, folder: str, module: str, names: str) -> List[str]:
        """Where the modules of one import statement of a file in `folder` lie, if they may hold options."""
        parts = module.split(".")
        if parts[:2] == ["vllm", "benchmarks"] or module == "vllm.engine.arg_utils":
            folder = self.root
        elif len(parts) > 1:
            return []
        base = os.path.join(folder, *parts)
        if module == "vllm.benchmarks":
            return [os.path.join(base, name.split()[0] + ".py") for name in names.split(",") if name.split()]
        return [base + ".py"] if not os.path.isdir(base) or len(parts) < 2 else [base]


class Driver:
    """One attempt from `start` to `end`."""

    def __init__(self, job: Dict[str, Any]) -> None:
        self.job = job
        self.limits: Dict[str, float] = job["deadlines"]
        self.overall = boot() + self.limits["overall"]
        self.events = Events(os.path.join(job["run"], "events.jsonl"))
        self.disks = Disks(job["run"], job["tree"] or "/")
        self.processes = Processes(job["attempt"], job["engine"], self.disks)
        self.setup = Setup(job, self.events, self.processes)
        self.phase = "setup"
        self.server: Optional[int] = None
        self.server_argv: List[str] = []
        self.argvs: List[List[str]] = []
        self.dropped: Set[str] = set()
        self.port = 0

    def run(self) -> int:
        deadlines = {"overall": self.overall, "setup": min(self.overall, boot() + self.limits["setup"])}
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot_id = f.read().strip()
        version = sys.version.split()[0]
        self.events.emit("start", pid=os.getpid(), python=version, boot_id=boot_id, deadlines=deadlines)
        code, outcome = EXIT_OK, "ok"
        try:
            self._attempt()
        except Stopped:
            code, outcome = EXIT_STOPPED, "stopped"
        except Failed as error:
            code, outcome = error.code, "timed_out" if error.code == EXIT_DEADLINE else "failed"
            self._fail(error.failure, error.reason, error.file)
        except Exception as error:
            code, outcome = EXIT_FAILED, "failed"
            self.disks.full |= isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._fail("harness_misconfig", "%s: %s" % (type(error).__name__, error))
        self.disks.look()
        if outcome != "stopped" and (self.disks.full or self.events.lost):
            code = EXIT_FULL
        self.processes.armed = False
        grace = float(self.job["grace"])
        if outcome == "stopped":  # whoever stops us waits `grace` before it kills us: end before that
            grace = max(grace - 2, grace / 2)
        left = self.processes.sweep(grace)
        self._chown()
        last: Dict[str, Any] = {"left": left} if left else {}
        self.events.emit("end", exit_code=code, outcome=outcome, phase=self.phase, **last)
        return code

    def _fail(self, failure: str, reason: str, file: Optional[str] = None) -> None:
        self.disks.look()
        extra: Dict[str, Any] = {"file": file} if file else {}
        if self.disks.full or self.events.lost:
            extra["disk_full"] = True  # the exit code tells it too, unless we are killed before it
        self.events.emit("fail", phase=self.phase, failure=failure, reason=reason, **extra)

    def _attempt(self) -> None:
        with self._phase("setup") as until:
            self.setup.all(until)
            self._prepare()
        if self.job["server"]:
            with self._phase("server") as until:
                self._start_server(until)
        with self._phase("measure") as until:
            restarts = 0.0
            fresh = self.job["fresh_server"] or "--seed" in self.dropped
            shared = self.server is not None and len(self.job["trials"]) > 1 and not fresh
            for number, trial in enumerate(self.job["trials"]):
                if fresh and self.server is not None and number:
                    restarts += self._restart_server()
                before = self._cache() if shared else None
                self._trial(trial, self.argvs[number], min(until + restarts, self.overall))
                after = self._cache() if before else None
                if before and after:
                    queries, hits = after[0] - before[0], after[1] - before[1]
                    self.events.emit("cache", index=trial["index"], queries=queries, hits=hits)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[float]:
        self.phase = name
        until = min(self.overall, boot() + self.limits[name])
        self.events.emit("phase", phase=name, state="start", deadline=until)
        try:
            yield until
        except Exception as error:
            self.events.emit("phase", phase=name, state="end", ok=False, reason=str(error) or "stopped")
            raise
        self.events.emit("phase", phase=name, state="end", ok=True)

    def _prepare(self) -> None:
        """Resolve every argv now, so that a missing script costs no server start."""
        server = self.job["server"]
        if server:
            self.port = server["port"] or free_port()
            self.server_argv = self._argv(server["argv"])
        self.argvs = [self._argv(trial["argv"]) for trial in self.job["trials"]]
        client = Client(self.argvs[0], self.setup.root)
        try:
            client.check()
        except Failed as error:
            self.setup.say(str(error))
            raise
        for number, trial in enumerate(self.job["trials"]):
            for group in trial["optional"]:
                if not client.knows(group[0]):
                    self._drop(self.argvs[number], [self._fill(token) for token in group])
        names, digest = client.code()
        self.events.emit("client", files=names, sha256=digest, dropped=sorted(self.dropped))

    def _drop(self, argv: List[str], group: List[str]) -> None:
        """Take an option that we added out of a client's argv: this release does not know it."""
        size = len(group)
        for at in range(len(argv) - size + 1):
            if argv[at : at + size] == group:
                del argv[at : at + size]
                self.dropped.add(group[0])
                return

    def _fill(self, token: str) -> str:
        dataset = self.job["dataset"]
        values = {"port": str(self.port), "run": self.job["run"], "model": self.setup.model}
        values["dataset"] = dataset["path"] if dataset else ""
        return re.sub(r"\{isobench:(port|run|model|dataset)\}", lambda found: values[found[1]], token)

    def _argv(self, tokens: Sequence[str]) -> List[str]:
        argv = [self._fill(token) for token in tokens]
        python, search = self.setup.python, self.setup.env.get("PATH")
        head = [argv[0]]
        if argv[0] in ("python", "python3"):
            head = [python]
        elif argv[0] == "vllm":
            script = shutil.which("vllm", path=os.path.dirname(python)) or shutil.which("vllm", path=search)
            head = [script] if script else [python, "-m", "vllm.entrypoints.cli.main"]
        elif not shutil.which(argv[0], path=search):
            raise Failed("harness_misconfig", "%s: no such program" % argv[0])
        if len(argv) > 1 and argv[1].endswith(".py"):
            argv[1] = self._script(argv[1])
        return head + argv[1:]

    def _script(self, name: str) -> str:
        """The path of a benchmark script, looked up where images keep vLLM's source tree."""
        folders = [self.setup.cwd, self.setup.root]
        if not self.job["tree"]:  # in an image; elsewhere these folders are not the attempt's
            folders += SCRIPT_PLACES
        names = [name] if os.path.dirname(name) else [name, os.path.join("benchmarks", name)]
        places = list(dict.fromkeys(os.path.join(folder, name) for folder in folders for name in names))
        for place in places:
            if os.path.isfile(place):
                return place
        raise Failed("bench_script_missing", "no %s (looked at %s)" % (name, ", ".join(places)))

    def _measured_env(self) -> Dict[str, str]:
        """The children's environment with the secrets, which only server and client get."""
        env = dict(self.setup.env)
        for name, path in self.job["secrets"].items():
            try:
                with open(path) as f:
                    env[name] = f.read().rstrip("\r\n")
            except OSError as error:
                raise Failed("harness_misconfig", "secret %s: %s" % (name, error.strerror)) from None
        return env

    def _start_server(self, until: float) -> None:
        with socket.socket() as sock:
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                raise Failed("port_in_use", "something listens on port %d already" % self.port)
        log = open_append(os.path.join(self.job["run"], "server.log"))
        start = boot()
        self.server = self.processes.spawn(self.server_argv, log, self._measured_env(), self.setup.cwd)
        os.close(log)
        self.events.emit("server", pid=self.server, argv=self.server_argv, port=self.port, log="server.log")
        delay, state = 0.2, "no answer"
        while True:
            if boot() >= until:
                reason = "the server was not ready in time; last seen: %s" % state
                raise Failed("server_timeout", reason, "server.log", EXIT_DEADLINE)
            state, models = self._ready(until)
            code = self.processes.codes.get(self.server)
            if code is not None:
                raise Failed("server_crash", "the server ended with %s before it was ready" % how(code), "server.log")
            if models is not None:
                self.events.emit("ready", seconds=boot() - start, health=200, models=models)
                return
            self.processes.wait(self.server, min(boot() + delay, until))
            delay = min(1.0, delay * 1.5)

    def _ready(self, until: float) -> Tuple[str, Optional[List[str]]]:
        """What the port says, and the models it lists once OUR model is among them."""
        path = "/health"
        try:
            for path in ("/health", "/v1/models"):
                status, body = http_get(self.processes, self.port, path, min(until, boot() + 5))
                if status != 200:
                    return "%s answered %d" % (path, status), None
            models = [str(entry["id"]) for entry in json.loads(body.decode())["data"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return "%s: %s" % (path, error), None
        wanted = {self._fill(name) for name in self.job["server"]["model_ids"]}
        if self.job["model"] in wanted:
            wanted.add(self.setup.model)
        if not wanted & set(models):
            reason = "port %d serves %s, not %s" % (self.port, ", ".join(models), " or ".join(sorted(wanted)))
            raise Failed("port_in_use", reason, "server.log")
        return "ready", models

    def _cache(self) -> Optional[Tuple[int, int]]:
        """Prompt tokens that the server looked up in its prefix cache so far, and found; None if it does not say."""
        assert self.server is not None
        try:
            status, body = http_get(self.processes, self.port, "/metrics", boot() + 10)
        except OSError:
            return None
        found: Dict[bytes, float] = {}
        for what, value in CACHED.findall(body) if status == 200 else ():
            found[what] = found.get(what, 0.0) + float(value)
        return (int(found[b"queries"]), int(found[b"hits"])) if len(found) == 2 else None

    def _restart_server(self) -> float:
        """A fresh server; returns the seconds it took, which are not the measurement's."""
        begun = boot()
        assert self.server is not None
        self.processes.end(self.server, self.job["grace"])
        self.processes.sweep(self.job["grace"])
        phase, self.phase = self.phase, "server"
        self._start_server(min(self.overall, boot() + self.limits["server"]))
        self.phase = phase
        return boot() - begun

    def _trial(self, trial: Dict[str, Any], argv: List[str], until: float) -> None:
        seed = None if "--seed" in self.dropped else trial["seed"]
        facts = {"index": trial["index"], "counted": trial["counted"], "argv": argv, "seed": seed}
        there = set(os.listdir(self.job["run"]))
        self.events.emit("trial", state="start", **facts)
        start = boot()
        log = open_append(os.path.join(self.job["run"], trial["log"]))
        try:
            pid = self.processes.spawn(argv, log, self._measured_env(), self.setup.cwd, grouped=True)
            late = self._watch(pid, lambda: os.fstat(log).st_size, until)
        finally:
            os.close(log)
        code = self.processes.end(pid, self.job["grace"]) if late else self.processes.codes[pid]
        if "--result-filename" in self.dropped:
            self._take_result(trial, there)
        extra = {"timed_out": late} if late else {}
        self.events.emit("trial", state="end", **facts, **ending(code), seconds=boot() - start, **extra)
        broken = self._health() if self.server is not None else ""
        if late:
            said = "wrote nothing for %g s" % self.limits["stall"] if late == "stall" else "did not end in time"
            reason = "the client of trial %d %s%s" % (trial["index"], said, "; " + broken if broken else "")
            raise Failed("timeout", reason, trial["log"], EXIT_DEADLINE)
        client = "the client of trial %d ended with %s" % (trial["index"], how(code or 0))
        if broken:
            raise Failed("server_crash", "%s; %s" % (broken, client), "server.log")
        if code:
            raise Failed("client_failed", client, trial["log"])

    def _take_result(self, trial: Dict[str, Any], before: Set[str]) -> None:
        """Find the result file of a client that names it itself (vLLM < 0.5.1), and give it our name."""
        run = self.job["run"]
        made = [name for name in set(os.listdir(run)) - before if name.endswith(".json")]
        if trial["result"] and len(made) == 1 and stat.S_ISREG(os.lstat(os.path.join(run, made[0])).st_mode):
            os.replace(os.path.join(run, made[0]), os.path.join(run, trial["result"]))

    def _watch(self, pid: int, size: Callable[[], int], until: float) -> str:
        """Wait for a client: "" if it ended, else `deadline` or `stall`. Any growth of its log is life."""
        seen, seen_at = size(), boot()
        while pid not in self.processes.codes:
            silent_at = seen_at + self.limits["stall"]
            self.processes.pause(min(until, silent_at) - boot())
            now, grown = boot(), size()
            if grown != seen:
                seen, seen_at = grown, now
            elif pid not in self.processes.codes and now >= min(until, silent_at):
                return "deadline" if now >= until else "stall"
            if now >= until and pid not in self.processes.codes:
                return "deadline"
        return ""

    def _health(self) -> str:
        """Emit `health`; returns what is wrong, or an empty string."""
        assert self.server is not None
        status: Optional[int] = None
        with contextlib.suppress(OSError):
            status = http_get(self.processes, self.port, "/health", boot() + 10)[0]
        self.processes.pause(0)
        code = self.processes.codes.get(self.server)
        extra = {"exit_code": code} if code is not None else {}
        self.events.emit("health", status=status, alive=code is None, **extra)
        if code is not None:
            return "the server ended with %s" % how(code)
        return "" if status == 200 else "after the trial /health answered %s" % (status or "nothing")

    def _chown(self) -> None:
        owner = self.job["owner"]
        for folder, folders, files in os.walk(self.job["run"]) if owner else ():
            for name in folders + files:
                with contextlib.suppress(OSError):
                    os.chown(os.path.join(folder, name), owner["uid"], owner["gid"], follow_symlinks=False)


def main(argv: Sequence[str]) -> int:
    with open(argv[1]) as f:
        job: Dict[str, Any] = json.load(f)
    if job.get("format") != 1:
        sys.stderr.write("driver: job.json has format %r, this driver reads 1\n" % job.get("format"))
        return EXIT_FAILED
    return Driver(job).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
