"""Chaos: a campaign in real containers while its runner, its drivers and its engine are killed again and again.

The schedule comes from one seed, which is printed. What counts is the end: the same (job, outcome, class) as in an
undisturbed run, each counted as often, and nothing left behind. `scripts/chaos` runs it; a short form is a test.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import dockerd
from campaigns import SERVE, THROUGHPUT, Images, Site, build_images, site_at, task
from disks import MB, CannotMount, SmallDisk
from dockerd import CannotStart, Dockerd, Host, Registry, until

from isobench_tui.runner import faults
from isobench_tui.runner.watchdog import Limits

How = Literal["point", "random", "driver", "engine", "freeze", "disk"]
Outcome = tuple[str, str | None, int]
"""Outcome or state, class, attempts that count."""

DISK = 8192 * MB
"""Size of the small disk, in a sparse file: with less the queue would wait for space before it is filled."""
REACHED_S = 12.0
"""A named point that is not reached by then: the runner is killed where it is."""
FULL_S = 4.0
"""How long the disk is full."""


@dataclass(frozen=True)
class Blow:
    """One disturbance. `after`: seconds that the runner may work first (random kills, and all but named points)."""

    how: How
    after: float = 0.0
    point: str = ""
    passing: int = 1

    def __str__(self) -> str:
        return f"{self.point}@{self.passing}" if self.how == "point" else f"{self.how} after {self.after:.2f} s"


def schedule(kills: int, seed: int, *, engines: int, drivers: int, freezes: int, disks: int = 0) -> list[Blow]:
    """`kills` of the runner, two of three at a named point, each once before any twice; the rest lies between."""
    dice = random.Random(seed)
    points = [*faults.PHASES, *faults.BETWEEN, *faults.WRITES]
    named: list[Blow] = []
    while len(named) < (2 * kills + 2) // 3:
        for point in dice.sample(points, len(points)):
            passing = (
                dice.randint(1, 40) if point in faults.WRITES and point.startswith("write") else dice.randint(1, 2)
            )
            named.append(Blow("point", point=point, passing=passing))
    blows = named[: (2 * kills + 2) // 3]
    blows += [Blow("random", dice.uniform(0.0, 2.5)) for _ in range(kills - len(blows))]
    for how, count in (("engine", engines), ("driver", drivers), ("freeze", freezes), ("disk", disks)):
        blows += [Blow(how, dice.uniform(0.2, 2.0)) for _ in range(count)]  # type: ignore[arg-type]
    dice.shuffle(blows)
    return blows


def campaign(site: Site, name: str, jobs: int) -> Path:
    """`jobs` short jobs of all kinds: good ones, a patch that does not apply, one that breaks the server."""
    tasks, count, digit = [], 0, 0
    while count < jobs:
        serves = digit % 4 == 0
        patches = {"good": "faster-schedule.diff", "stray": "does-not-apply.diff"}
        if serves:
            patches["bad"] = "breaks-server.diff"
        patches = dict(list(patches.items())[: max(0, jobs - count - 1)])
        commit = f"{digit:x}".rjust(2, "c") * 20
        tasks.append(task(commit, SERVE if serves else THROUGHPUT, patches=patches))
        count += 1 + len(patches)
        digit += 1
    return site.campaign(
        *tasks,
        name=name,
        arms=["baseline", "agent"],
        limits="max_attempts = 1\nsame_failure = 1000",
        timeouts={"cleanup": "20s", "start": "30s", "preflight": "30s"},
    )


@dataclass
class Chaos:
    """One workspace that is beaten until its campaign has ended."""

    site: Site
    blows: list[Blow]
    freeze_s: float
    disk: SmallDisk | None = None
    """Where the site is, if it is to fill up."""
    say: bool = True
    struck: Counter[str] = field(default_factory=Counter)
    fallen: int = 0
    _tmp: Path = field(init=False)
    _mounts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._mounts = mounts(self.site)
        self._tmp = self.site.root / "tmp"
        self._tmp.mkdir(exist_ok=True)

    def run(self, jobs: int) -> None:
        """Campaign after campaign until every blow has fallen, then to the end of the last."""
        left = list(self.blows)
        number = 0
        while left or number == 0:
            self.site.isobench("run", campaign(self.site, f"chaos-{number}", jobs), "--detach", env=self._env())
            self.site.kill_runner()
            number += 1
            while left and self._unfinished():
                blow = left.pop(0)
                if not self._strike(blow):
                    left.append(blow)
                self._release()
        self._to_the_end()

    def outcomes(self) -> dict[str, dict[str, Outcome]]:
        """Campaign -> job -> how it came out."""
        rows = self.site.rows(
            "SELECT c.name, t.commit_sha, j.arm, j.agent, j.state, j.outcome, j.valid, j.failure, "
            "(SELECT coalesce(sum(counts), 0) FROM attempts a WHERE a.job_id = j.id) AS counted FROM jobs j "
            "JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id"
        )
        found: dict[str, dict[str, Outcome]] = {}
        for row in rows:
            outcome = "invalid" if row["valid"] == 0 else row["outcome"] or row["state"]
            name = f"{row['commit_sha'][:4]}:{row['agent'] or row['arm']}"
            found.setdefault(row["name"], {})[name] = (outcome, row["failure"], row["counted"])
        return found

    def check_nothing_left(self) -> None:
        """No container, process, mount or temporary file; a sound database; an event for every freeze."""
        self.site.assert_nothing_left()
        assert self.site.one("PRAGMA integrity_check") == "ok"
        parts = [path for path in self.site.root.rglob("*") if path.name.endswith((".part", ".restored"))]
        assert parts == [], parts
        assert list(self._tmp.iterdir()) == [], list(self._tmp.rglob("*"))
        folders = {path.name for path in self.site.workspace.runs.iterdir()}
        strangers = folders - {row["id"] for row in self.site.rows("SELECT id FROM attempts")}
        assert not strangers, strangers
        twice = "SELECT job_id FROM attempts WHERE outcome = 'success' GROUP BY job_id HAVING count(*) > 1"
        assert self.site.rows(twice) == [], self.site.rows(twice)
        if self.freeze_s > 2 * Limits().still:
            told = [text for text in self.site.story() if "stood still" in text]
            assert len(told) >= self.struck["freeze"], (told, self.struck["freeze"], self.site.tell())
        assert mounts(self.site) == self._mounts, (self._mounts, mounts(self.site))

    # ------------------------------------------------------------------------------------------------- blows

    def _strike(self, blow: Blow) -> bool:
        """False for a freeze of a runner that had ended before: it has to fall again."""
        self._print(f"{self.fallen + 1:4} {blow}")
        fell = True
        runner = self._start(f"{blow.point}:kill@{blow.passing}" if blow.how == "point" else "")
        try:
            match blow.how:
                case "point":
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        runner.wait(REACHED_S)
                case "random":
                    time.sleep(blow.after)
                case "driver":
                    self._work(runner, blow.after)
                    self._kill_driver()
                    self._work(runner, 1.0)
                case "engine":
                    self._work(runner, blow.after)
                    self._restart_engine(crash=blow.after > 1.0)
                    self._work(runner, 3.0)
                case "freeze":
                    self._work(runner, blow.after)
                    fell = self._freeze(runner)
                case "disk":
                    self._work(runner, blow.after)
                    runner = self._fill_disk(runner, kill=blow.after > 1.0)
                    self._work(runner, 3.0)
        finally:
            self._kill(runner)
        if fell:
            self.fallen += 1
            self.struck[blow.point or blow.how] += 1
        return fell

    def _start(self, fault: str) -> subprocess.Popen[bytes]:
        with self.site.workspace.runner_log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "isobench_tui.runner", "--workspace", str(self.site.workspace.root)],
                env={**self.site.env, **self._env(), **({"ISOBENCH_FAULTS": fault} if fault else {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _work(self, runner: subprocess.Popen[bytes], seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            runner.wait(seconds)

    def _kill(self, runner: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            runner.kill()
        code = runner.wait()
        # 0: there was nothing left to do; anything else is a fault of ours
        assert code in {0, -signal.SIGKILL}, f"the runner ended with {code}\n{self.site.tell()}"
        until(lambda: not self.site.workspace.locked(), what="the lock is free")

    def _kill_driver(self) -> None:
        for found in self.site.containers():
            with contextlib.suppress(Exception):
                pid = self.site.host.client.inspect_container(found["Id"])["State"]["Pid"]
                if pid:
                    os.kill(pid, signal.SIGKILL)

    def _restart_engine(self, *, crash: bool) -> None:
        assert isinstance(self.site.host, Dockerd)
        if crash:
            self.site.host.crash()
        else:
            self.site.host.stop()
        self.site.host.start()

    def _freeze(self, runner: subprocess.Popen[bytes]) -> bool:
        started = f"the runner starts, pid {runner.pid}"  # before that nobody watches
        until(lambda: runner.poll() is not None or started in self.site.story(), within=60, what=started)
        self._work(runner, 1.0)
        if runner.poll() is not None:
            return False
        runner.send_signal(signal.SIGSTOP)
        time.sleep(self.freeze_s)
        runner.send_signal(signal.SIGCONT)
        self._work(runner, 3.0)
        return True

    def _fill_disk(self, runner: subprocess.Popen[bytes], *, kill: bool) -> subprocess.Popen[bytes]:
        """Not a byte is left for a while. `kill`: the runner dies meanwhile, the next one starts without space."""
        assert self.disk is not None
        self.disk.fill()
        try:
            self._work(runner, FULL_S)
            if kill:
                self._kill(runner)
                runner = self._start("")
                self._work(runner, FULL_S)
        finally:
            self.disk.empty()
        return runner

    # --------------------------------------------------------------------------------------------- in between

    def _env(self) -> dict[str, str]:
        return {"TMPDIR": str(self._tmp)}

    def _unfinished(self) -> bool:
        return bool(
            self.site.one("SELECT 1 FROM jobs WHERE state IN ('queued', 'running', 'held')")
            or self.site.one("SELECT 1 FROM attempts WHERE state != 'closed'")
        )

    def _release(self) -> None:
        """What an operator does with jobs that were interrupted three times."""
        held = [row["id"] for row in self.site.rows("SELECT id FROM jobs WHERE state = 'held'")]
        if held:
            self.site.isobench("release", *held)

    def _to_the_end(self) -> None:
        while self._unfinished():
            self._release()
            runner = self._start("")
            code = runner.wait(600)
            assert code == 0, f"the runner ended with {code}\n{self.site.tell()}"

    def _print(self, text: str) -> None:
        if self.say:
            print(text, flush=True)


def mounts(site: Site) -> list[str]:
    """Mount points of the engine and below the site's folder."""
    roots = [site.root, *([site.host.root] if isinstance(site.host, Dockerd) else [])]
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if any(Path(point).is_relative_to(root) for root in roots))


def undisturbed(site: Site, jobs: int) -> dict[str, Outcome]:
    """How the campaign ends when it is left in peace."""
    calm = Chaos(site, [], 0.0, say=False)
    calm.run(jobs)
    calm.check_nothing_left()
    return calm.outcomes()["chaos-0"]


def judge(expected: dict[str, Outcome], chaos: Chaos) -> None:
    """The same outcomes in every campaign, and nothing left. AssertionError with what differs."""
    for name, found in chaos.outcomes().items():
        differs = {
            key: (expected.get(key), found.get(key))
            for key in expected | found
            if expected.get(key) != found.get(key)
        }
        assert not differs, f"{name}: (undisturbed, found): {differs}\n{chaos.site.tell()}"
    chaos.check_nothing_left()


@contextlib.contextmanager
def _parts() -> Iterator[tuple[Host, Images]]:
    with dockerd.host("overlay2") as host:
        registry = Registry()
        try:
            yield host, build_images(host, registry)
        finally:
            registry.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="kills -9 of the runner (default: 200)")
    parser.add_argument("--jobs", type=int, default=40, metavar="N", help="jobs of a campaign (default: 40)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the schedule (default: by the clock)")
    parser.add_argument(
        "--freeze", type=float, default=30.0, metavar="S", help="length of a kill -STOP (default: 30)"
    )
    parser.add_argument(
        "--disk", action="store_true", help="the workspace is on a disk of its own that fills and empties again"
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    again = f"scripts/chaos --kills {options.kills} --jobs {options.jobs} --seed {seed}{' --disk' * options.disk}"
    print(f"seed {seed}: `{again}` repeats it", flush=True)
    blows = schedule(
        options.kills,
        seed,
        engines=options.kills // 40 + 1,
        drivers=options.kills // 10 + 1,
        freezes=1,
        disks=options.kills // 10 + 1 if options.disk else 0,
    )
    began = time.monotonic()
    try:
        with _parts() as (host, images), tempfile.TemporaryDirectory(prefix="isb-chaos-") as folder:
            with site_at(Path(folder) / "calm", host, images) as site:
                expected = undisturbed(site, options.jobs)
                print(f"undisturbed: {len(expected)} jobs in {time.monotonic() - began:.0f} s", flush=True)
            with (
                contextlib.closing(SmallDisk(DISK)) if options.disk else contextlib.nullcontext() as disk,
                site_at((disk.path if disk else Path(folder)) / "storm", host, images) as site,
            ):
                chaos = Chaos(site, blows, options.freeze, disk)
                chaos.run(options.jobs)
                judge(expected, chaos)
                campaigns, attempts = len(chaos.outcomes()), site.one("SELECT count(*) FROM attempts")
    except (CannotStart, CannotMount) as reason:
        print(f"scripts/chaos: {reason}", file=sys.stderr)
        return 2
    except AssertionError as error:
        traceback.print_exc()
        print(f"scripts/chaos: seed {seed}: not as undisturbed: {error}", file=sys.stderr)
        return 1
    struck = ", ".join(f"{count} {name}" for name, count in sorted(chaos.struck.items()))
    print(f"{campaigns} campaigns of {options.jobs} jobs, {attempts} attempts, blows: {struck}")
    print(f"same outcomes, each once, nothing left; {time.monotonic() - began:.0f} s, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
