"""What a dashboard that watches does to what is measured: a pinned, deterministic load, with and without one.

    python benchmarks/perturbation.py [--quick]

One attempt of a campaign on the process engine, with a lane of one CPU. Its client does a fixed piece of work
whenever it is told to, prints a line every few milliseconds as a busy server does, and says how long the piece
took: that is the measured number. Each pair has one piece with `isobench attach` open in a real terminal that shows
the log as it grows, and one with none; which comes first alternates. The bar is on the whole 90 % confidence
interval (Student's t, paired) of the relative difference. The machine must be otherwise idle, with two CPUs at
least.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bars import Bar, print_table, settle, spread

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from dockerd import until  # noqa: E402
from terminal import Terminal  # noqa: E402

PAIRS, QUICK_PAIRS = 40, 6
LIMIT_PERCENT = 1.0
WITHIN = 120.0
"""Seconds after which a wait has failed."""
ROUNDS = 1200
"""Slices of work in a piece, a line of log after each."""

CLIENT = """
import hashlib, os, pathlib, sys, time
from vllm.benchmarks import throughput
from vllm.engine.arg_utils import FlexibleArgumentParser

gate = pathlib.Path(os.environ["GATE"])
block = bytes(range(256)) * 4096
number = 0
while not (gate / "end").exists():
    if not (gate / f"go-{number}").exists():
        time.sleep(0.01)
        continue
    began = time.perf_counter()
    for line in range(ROUNDS):
        hashlib.sha256(block[: 1 << 19]).digest()
        hashlib.sha256(block[: 1 << 19]).digest()
        print(f"INFO 01-24 10:00:00 metrics.py:{line}] Avg generation throughput: {line}.0 tokens/s, Running: 8 reqs")
    took = time.perf_counter() - began
    (gate / "part").write_text(repr(took))
    os.replace(gate / "part", gate / f"took-{number}")
    number += 1
throughput.main(throughput.add_cli_args(FlexibleArgumentParser(description="SIMULATED")).parse_args())
"""


class Load:
    """The attempt that measures; `piece` has it work once."""

    def __init__(self, folder: Path) -> None:
        self._gate = folder / "gate"
        self._gate.mkdir()
        self._count = 0
        tree = folder / "tree"
        shutil.copytree(REPO / "examples" / "demo" / "tree", tree)
        client = CLIENT.replace("ROUNDS", str(ROUNDS))
        (tree / "benchmarks" / "benchmark_throughput.py").write_text(client)
        file = folder / "campaign.toml"
        cpu = max(os.sched_getaffinity(0))
        file.write_text(
            '[campaign]\nname = "perturbation"\nsimulated = true\narms = ["baseline"]\n'
            f'[images]\nbaseline = "{tree}"\n[engine]\nkind = "process"\n'
            f'[[lanes]]\ncpus = "{cpu}"\n[timeouts]\nmeasure = "2h"\nstall = "2h"\n'
            f'[[tasks]]\ncommit = "{"a" * 40}"\nparent = "{"b" * 40}"\n'
            'perf_command = "python benchmarks/benchmark_throughput.py --model facebook/opt-125m"\n'
            f'env.GATE = "{self._gate}"\n'
        )
        self.env = {
            **os.environ,
            "ISOBENCH_WORKSPACE": str(folder / "workspace"),
            "ISOBENCH_CONFIG": str(folder / "config.toml"),
            "ISOBENCH_TUI_FPS": "5",
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self._isobench("run", "--detach", str(file))

    def _isobench(self, *argv: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "isobench_tui", *argv],
            check=True, cwd=REPO, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def piece(self, window: Terminal | None = None) -> float:
        """Seconds of one piece of work; the window's bytes are taken meanwhile, as a terminal does."""
        took = self._gate / f"took-{self._count}"
        (self._gate / f"go-{self._count}").touch()

        def done() -> bool:
            if window is not None:
                window.read(0.0)
            return took.exists()

        until(done, within=WITHIN, what=str(took))
        self._count += 1
        return float(took.read_text())

    def close(self) -> None:
        """Let the client end and the runner with it."""
        (self._gate / "end").touch()
        self._isobench("shutdown", "--now")


@contextmanager
def watched(load: Load) -> Iterator[Terminal]:
    """A dashboard that has been painted and shows the log."""
    argv = [sys.executable, "-m", "isobench_tui", "attach"]
    window = Terminal(argv, load.env, columns=160, rows=48, emulate=False)
    try:
        window.until(lambda: b"following" in window.raw, "the log", WITHIN)
        yield window
        assert window.process.poll() is None, "the dashboard ended while it watched"
    finally:
        window.press("q")
        window.ends(seconds=WITHIN)
        window.hang_up()


def measure(load: Load, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds with nobody watching, and with a dashboard, pair by pair; one piece before them warms up."""
    alone: list[float] = []
    with_one: list[float] = []

    def seen() -> None:
        with watched(load) as window:
            with_one.append(load.piece(window))

    def unseen() -> None:
        alone.append(load.piece())

    load.piece()
    for pair in range(pairs):
        for turn in (unseen, seen) if pair % 2 else (seen, unseen):
            turn()
        print(f"pair {pair + 1}: alone {alone[-1]:.3f} s, watched {with_one[-1]:.3f} s", file=sys.stderr)
    return alone, with_one


def interval(changes: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 90 % confidence interval of paired differences (Student's t)."""
    from scipy import stats

    mean = statistics.fmean(changes)
    error = statistics.stdev(changes) / len(changes) ** 0.5
    reach = float(stats.t.ppf(0.95, len(changes) - 1)) * error
    return mean, mean - reach, mean + reach


def main() -> int:
    parser = argparse.ArgumentParser(description="What a dashboard that watches does to what is measured.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs instead of {PAIRS}")
    pairs = QUICK_PAIRS if parser.parse_args().quick else PAIRS
    if len(os.sched_getaffinity(0)) < 2:
        print("cannot measure: the load needs a CPU for itself, and there is one alone", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="isb-perturbation-") as name:
        load = Load(Path(name))
        try:
            alone, with_one = measure(load, pairs)
        finally:
            load.close()
    changes = [100 * (mine / other - 1) for mine, other in zip(with_one, alone, strict=True)]
    rows = [
        ("alone, ms", *spread([1000 * one for one in alone])),
        ("watched, ms", *spread([1000 * one for one in with_one])),
        ("difference, %", *spread(changes)),
    ]
    print_table(("", "n", "median", "least", "most"), rows)
    mean, low, high = interval(changes)
    print(f"mean difference {mean:+.3f} %, 90 % CI [{low:+.3f}, {high:+.3f}] %")
    return settle(Bar("perturbation_ci_percent", max(abs(low), abs(high)), "<=", LIMIT_PERCENT))


if __name__ == "__main__":
    sys.exit(main())
