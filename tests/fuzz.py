"""Fuzzing of what reads other people's bytes: client output, logs, patches, campaign files, manifests, old results.

Every reader has its promise: no exception but its own, nothing returned that a terminal would obey, an answer in
seconds. Inputs are mutations of real ones; one after which a reader says something it never said joins the inputs.
The seed is printed. `scripts/fuzz` runs it for ten minutes; a short form is a test.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import get_args

from isobench_tui.campaign import load, patchlint
from isobench_tui.campaign.models import Mode
from isobench_tui.campaign.problems import SpecError
from isobench_tui.engine import driver
from isobench_tui.engine.base import EngineError
from isobench_tui.engine.images import manifest
from isobench_tui.report.markdown import cell
from isobench_tui.results import legacy, live
from isobench_tui.results.clues import Context
from isobench_tui.results.diagnose import diagnose
from isobench_tui.results.parse import parse_client
from isobench_tui.results.text import clean
from isobench_tui.runner.eventlog import EventLog
from isobench_tui.store.rundir import RunDir

REPO = Path(__file__).resolve().parents[1]
CPU_S = 10
"""Seconds of CPU that one input of at most LONGEST bytes may take: far more than any honest one."""
LONGEST = 64 * 1024
MEMORY = 4 << 30
MOST_KEPT = 400
"""Inputs of one reader that are mutated further."""

MODES: tuple[Mode, ...] = get_args(Mode)
OBEYED = frozenset([*map(chr, range(9)), *map(chr, range(10, 32)), *map(chr, range(0x7F, 0xA0))]) | frozenset(
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""What no text that we show may hold: control characters but the tab, and what turns the direction of text."""
WORDS = (
    b"\0", b"\r", b"\n", b"\x1b[31m", b"\x1b]52;c;QQ==\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b]0;t\x07", b"\x9b2J",
    "\u202e\u2066\u061c".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"nan", b"inf", b"1e999", b"-1", b"9" * 400,
    b"{", b"[", b"}" * 50, b"[" * 3000, b'{"a":' * 3000, b'"""', b"'''", b"../", b"/etc/passwd", b"/dev/null",
    b"@@ -1 +1 @@\n", b"@@ -1,999999999 +1,999999999 @@\n", b"rename from ", b"rename to ../../x\n",
    b"new mode 120000\n", b"index 1..2 160000\n", b"GIT binary patch\nliteral 5\n", b"diff --git a/x b/x\n",
    b"--- a/x\n+++ b/x\n", b"\\ No newline", b"=CMD()", b"|", b"<script>", b"[x](javascript:y)", b"`", b"$(id)",
    b"; rm -rf /", b"Traceback (most recent call last):\n", b'  File "x.py", line 1, in f\n', b"CUDA out of memory",
    b"torch.OutOfMemoryError: ", b"============ Serving Benchmark", b"[[tasks]]\n", b"[campaign]\n", b"null", b"true",
    b"-0", b"1" + b"0" * 30, b"\xef\xbb\xbf",
)  # fmt: skip


class Stuck(AssertionError):
    """An input took too long."""


class Broken(AssertionError):
    """A reader returned what it must not."""


def harmless(*texts: str) -> None:
    """Raises Broken."""
    for text in texts:
        if bad := OBEYED & set(text):
            raise Broken(f"{sorted(bad)!r} in {text[:200]!r}")


# ------------------------------------------------------------------------------------------------------- readers


def client(data: bytes) -> Hashable:
    """The first byte chooses the mode, the second whether there is a result file and where it begins."""
    mode = MODES[data[0] % len(MODES)] if data else MODES[0]
    body = data[2:]
    log, split, raw = body.partition(b"\n\x01\n")
    found = parse_client(mode, log, raw if split else None)
    for item in found.metrics:
        if not (math.isfinite(item.value) and item.value >= 0):
            raise Broken(f"{item}")
    harmless(*found.problems, found.reason or "")
    live.latest(log)
    return mode, frozenset(item.name for item in found.metrics), found.reason, len(found.problems)


def logs(data: bytes) -> Hashable:
    """A server's and a client's log."""
    server, _, other = data.partition(b"\n\x01\n")
    patched = Context(patched=True, patch_files=("vllm/core/scheduler.py", "x.py"))
    found = diagnose({"server.log": server, "client-00.log": other}, exit_code=1, context=patched)
    harmless(found.reason, *([found.evidence.text] if found.evidence else []))
    harmless(clean(data.decode("utf-8", "replace")), cell(data.decode("utf-8", "replace")))
    return found.failure, found.blame, bool(found.frame)


def patch(data: bytes) -> Hashable:
    """The runner's lint, and what the driver would do to the demo's tree."""
    findings = patchlint.lint(data)
    harmless(*(finding.text for finding in findings))
    root = REPO / "examples" / "demo" / "tree"
    try:
        found = driver.Patch(data, str(root))
        found.expect()
    except driver.Failed as refused:
        said = re.sub(r"\d+|'.*'|\S*/\S*", "", refused.reason)[:40]
    else:
        said = f"{len(found.expected)} files"
        for path in found.expected:
            if not (root / path).resolve().is_relative_to(root):
                raise Broken(f"{path!r} lies outside the tree")
    return tuple(finding.kind for finding in findings), said


def campaign(data: bytes) -> Hashable:
    """A campaign file as it lies on the disk."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        try:
            found = load.load(file.name)
        except SpecError as error:
            for line in str(error).split("\n"):
                if not line.isprintable():
                    raise Broken(f"{line!r}") from error
            return tuple(sorted({(problem.key.split("[")[0], problem.what[:20]) for problem in error.problems}))[:3]
        return len(found.jobs), tuple(finding.where for finding in found.findings)[:3]


def image(data: bytes) -> Hashable:
    """A registry's manifest."""
    try:
        found = manifest.read("image", data, manifest.Platform())
    except EngineError as error:
        return type(error).__name__, str(error)[:40]
    return type(found).__name__


def old(data: bytes) -> Hashable:
    """A result file of an earlier runner, as JSON and line by line."""
    seen = []
    for name in ("results/abcdef0123_human.json", "x.jsonl"):
        found = legacy.read(name, data)
        seen.append((len(found.records), len(found.troubles), found.known))
    return tuple(seen)


def events(data: bytes) -> Hashable:
    """A driver's events."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        run.write("events.jsonl", data)
        found = EventLog(run).read()
    return len(found), frozenset(str(event["event"])[:20] for event in found)


# -------------------------------------------------------------------------------------------------------- inputs


def _files(*patterns: str) -> list[bytes]:
    return [path.read_bytes()[:LONGEST] for pattern in patterns for path in sorted(REPO.glob(pattern))]


BLOCK = b"""\
============ Serving Benchmark Result ============
Successful requests:                     100
Benchmark duration (s):                  5.78
Total input tokens:                      70000
Request throughput (req/s):              17.31
Output token throughput (tok/s):         2215.21
Mean TTFT (ms):                          1021.51
P99 TPOT (ms):                           31.35
==================================================
\x01
{"completed": 100, "duration": 5.78, "output_throughput": 2215.21, "mean_ttft_ms": 1021.51}
"""
LINES = (
    b"\x00\x00Throughput: 12.3 requests/s, 456.7 total tokens/s, 89.0 output tokens/s\n"
    b'\x01\n{"requests_per_second": 12.3, "tokens_per_second": 456.7, "elapsed_time": 8.1, "num_requests": 100}',
    b'\x00\x00Avg latency: 1.5 seconds\n50% percentile latency: 1.4 seconds\n\x01\n{"avg_latency": 1.5, '
    b'"latencies": [1.4, 1.6], "percentiles": {"50": 1.4}}',
    b"\x00\x00------start generating------\ncost time 3.2\n",
)
LOGS = (
    b'Traceback (most recent call last):\n  File "/opt/vllm/core/scheduler.py", line 3, in f\n    x\nKeyError: 1\n'
    b"\x01\nx",
    b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB",
    b"ERROR 01-24 10:00:00 engine.py:1] Engine core initialization failed.\nRuntimeError: NCCL error: x\n\x01\n",
    b"ValueError: The model's max seq len (4096) is larger than the maximum number of tokens (2048)\n",
)
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    b'"application/vnd.oci.image.config.v1+json","digest":"sha256:'
    + b"a"
    * 64
    + b'","size":7},"layers":[{"mediaType":'
    b'"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:' + b"b" * 64 + b'","size":9}]}'
)
INDEX = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":'
    b'"application/vnd.oci.image.manifest.v1+json","digest":"sha256:' + b"a" * 64 + b'","size":7,"platform":{"os":'
    b'"linux","architecture":"amd64"}}]}'
)
OLD = (
    b'{"instance":{"commit_hash":"abcdef0123","model":"m"},"result":{"status":"success","human_metrics":'
    b'{"request_throughput":1.5}}}',
    b'{"human_commit":"abcdef01","baseline_metrics":{"throughput":1},"agent_metrics":{},"status":"error","error":"x"}',
)
EVENTS = (
    b'{"event":"phase","phase":"setup","state":"start","at":1.0}\n{"event":"phase","phase":"setup","state":"end","ok":true,'
    b'"at":2.0}\n{"event":"exit","code":0,"at":3.0}\n',
)


@dataclass(frozen=True)
class Target:
    """A reader and what its inputs are made from."""

    name: str
    read: Callable[[bytes], Hashable]
    seeds: list[bytes]


def targets() -> list[Target]:
    """All of them."""
    patches = _files("examples/*/patches/*.diff")
    return [
        Target("client", client, [bytes([n, 0]) + BLOCK for n in range(len(MODES))] + list(LINES)),
        Target("logs", logs, [*LOGS, BLOCK]),
        Target("patch", patch, patches),
        Target("campaign", campaign, _files("examples/*/campaign.toml")),
        Target("manifest", image, [MANIFEST, INDEX]),
        Target("old-results", old, list(OLD)),
        Target("events", events, list(EVENTS)),
    ]


def mutated(dice: random.Random, inputs: list[bytes]) -> bytes:
    """One of the inputs, changed in one to six places."""
    data = bytearray(dice.choice(inputs))
    for _ in range(dice.randint(1, 6)):
        at, length = dice.randint(0, len(data)), dice.choice((1, 1, 2, 4, 16, 200))
        match dice.randrange(9):
            case 0:
                data[at : at + length] = b""
            case 1:
                data[at:at] = dice.choice(WORDS)
            case 2:
                data[at : at + length] = dice.choice(WORDS)
            case 3:
                data[at:at] = dice.randbytes(length)
            case 4 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 5:
                data[at:at] = data[at : at + length] * dice.choice((2, 10, 100))
            case 6:
                other = dice.choice(inputs)
                begin = dice.randint(0, len(other))
                data[at : at + length] = other[begin : begin + dice.choice((20, 200, 2000))]
            case 7:
                lines = data.split(b"\n")
                dice.shuffle(lines)
                data = bytearray(b"\n".join(lines))
            case _:
                del data[dice.randint(0, len(data)) :]
    return bytes(data[:LONGEST])


# ------------------------------------------------------------------------------------------------------- running


@contextmanager
def _limited() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stuck(f"more than {CPU_S} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass
class Fuzz:
    """All readers in turn, from one seed."""

    seed: int
    runs: dict[str, int] = field(default_factory=dict)
    crashes: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """`target: where it broke` -> (input, traceback)."""

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._targets = targets()
        self._inputs = {target.name: list(target.seeds) for target in self._targets}
        self._said: dict[str, set[Hashable]] = {target.name: set() for target in self._targets}
        for target in self._targets:
            for data in target.seeds:
                self._try(target, data)

    def turn(self) -> None:
        """One input for each reader."""
        for target in self._targets:
            self._try(target, mutated(self._dice, self._inputs[target.name]))

    def kept(self) -> int:
        """Inputs after which a reader said something new."""
        return sum(map(len, self._said.values()))

    def _try(self, target: Target, data: bytes) -> None:
        self.runs[target.name] = self.runs.get(target.name, 0) + 1
        try:
            with _limited():
                said = target.read(data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{target.name}: {type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"
            self.crashes.setdefault(where, (data, traceback.format_exc()))
            return
        inputs = self._inputs[target.name]
        if said not in self._said[target.name] and len(inputs) < MOST_KEPT:
            self._said[target.name].add(said)
            inputs.append(data)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the inputs (default: by the clock)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where crashing inputs are written")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(f"seed {seed}", flush=True)
    fuzz = Fuzz(seed)
    end, told = time.monotonic() + 60 * options.minutes, time.monotonic()
    while time.monotonic() < end:
        fuzz.turn()
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{sum(fuzz.runs.values())} inputs, {fuzz.kept()} kept, {len(fuzz.crashes)} crashes", flush=True)
    for where, (data, trace) in fuzz.crashes.items():
        path = options.out / f"fuzz-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        print(f"\n{where}\n{path}\n{trace}")
    print(", ".join(f"{count} {name}" for name, count in fuzz.runs.items()))
    print(f"seed {seed}, {options.minutes:g} minutes: {len(fuzz.crashes)} crashes")
    return 1 if fuzz.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
