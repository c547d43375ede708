"""A terminal that is gone: a command that still writes to it ends quietly, and the campaign goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import REPO, A, B, Bench, bench_at, task


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def test_a_write_to_a_dead_terminal_ends_the_command_as_interrupted(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate)), task(B)), "--detach")
    master, terminal = pty.openpty()
    errors = bench.root / "errors"
    with errors.open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "isobench_tui", "attach"],
            cwd=REPO,
            env=bench.env,
            stdin=terminal,
            stdout=terminal,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509 - this test has no threads
        )
    os.close(terminal)
    assert os.read(master, 1024)  # it follows
    os.close(master)
    gate.touch()
    assert child.wait(60) == 130
    assert errors.read_bytes() == b""
    bench.cli("run")
    assert [job["outcome"] for job in bench.jobs().values()] == ["success", "success"]
