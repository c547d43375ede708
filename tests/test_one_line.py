"""A log with 100 MB in one line goes through every door, in the memory that an ordinary log takes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, C, bench_at, task, until
from terminal import terminal

MORE = 40 << 20
"""Bytes of memory beyond the twin's: far less than the line."""
WIDEST = 10_000
"""Characters of any line that is shown or exported."""
DOORS = (
    ("logs", "JOB"),
    ("logs", "JOB", "--json"),
    ("why", "JOB"),
    ("compare", "JOB"),
    ("status", "--json"),
    *(("export", what, "--format", form) for what in ("results", "events") for form in ("md", "csv", "json")),
)


def peak(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process of the test had by its end, or by now, in bytes."""
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, resident(process.pid))
        return process.poll() is not None

    until(ended, "it ends")
    return most


def resident(pid: int) -> int:
    """The most memory that a process had so far, in bytes; 0 once it has ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """`cccc` says little; `aaaa` has the line and succeeds, `bbbb` fails by what the line begins with."""
    with bench_at(tmp_path_factory.mktemp("line")) as made:
        made.submit(made.write(task(C), name="twin"))
        runner = made.runner()
        usual = peak(runner)
        made.submit(
            made.write(task(A, FAKE="one-line"), task(B, FAKE="one-line-oom"), limits="max_attempts = 1", name="line")
        )
        runner = made.runner()
        most = peak(runner)
        assert runner.returncode == 0, made.log()
        assert most - usual < MORE, (most, usual)
        sizes = sorted(path.stat().st_size for path in made.workspace.runs.glob("*/client-00.log"))
        assert [size > 100_000_000 for size in sizes] == [False, True, True]
        yield made


def test_it_is_parsed_and_diagnosed_all_the_same(bench: Bench) -> None:
    jobs = {row["failure"]: row for row in bench.jobs().values()}
    assert {name: row["outcome"] for name, row in jobs.items()} == {None: "success", "gpu_oom_capacity": "failed"}
    stored = bench.rows("SELECT DISTINCT value FROM metrics WHERE name = 'requests_per_second' AND trial = -1")
    assert stored == [{"value": 4.0}]
    (row,) = [row for row in json.loads(bench.cli("export", "--json").stdout) if row.get("commit") == B]
    assert row["evidence_line"] == 3
    assert row["evidence_text"].startswith("torch.OutOfMemoryError: CUDA out of memory.")


@pytest.mark.parametrize("door", DOORS, ids=" ".join)
def test_every_command_is_brief_about_it(bench: Bench, door: tuple[str, ...]) -> None:
    def most(job: str) -> tuple[int, str]:
        started = bench.start(*(job if word == "JOB" else word for word in door))
        memory = peak(started.process)
        assert "Traceback" not in started.err, started.err
        return memory, started.out

    usual, _ = most("cccc")
    memory, said = most("bbbb" if door[0] in {"why", "compare"} else "aaaa")
    assert said.strip()
    assert memory - usual < MORE, (memory, usual)
    if door[0] != "status" and "json" not in door:
        assert max(map(len, said.splitlines())) < WIDEST


def test_logs_counts_it_as_one_line(bench: Bench) -> None:
    said = [json.loads(line) for line in bench.cli("logs", "aaaa", "--json").stdout.splitlines()]
    lines = [one for one in said if one["file"] == "client-00.log"]
    assert [one["line"] for one in lines] == list(range(1, len(lines) + 1))
    assert lines[1]["text"].startswith("one two three xxx")
    assert re.search(r" … \d+ more characters$", lines[1]["text"])
    assert sum(map(int, re.findall(r"… (\d+) more", lines[1]["text"]))) > 99_000_000
    assert lines[2]["text"].startswith("Throughput: 4.00 requests/s")


def test_the_dashboard_shows_it_in_bounded_memory(bench: Bench) -> None:
    memory = []
    for job in (C, A):
        with terminal(bench.env, "attach", columns=140, rows=40) as seen:
            seen.shows(f"· {C[:8]}:baseline", "Throughput: 4.00")
            if job == A:
                seen.insist("\x1b[B", f"· {A[:8]}:baseline")
                seen.shows("x" * 120, "Throughput: 4.00", "5 lines")
            seen.press("1")
            seen.insist("e", "search: errors (0 lines)")  # the whole log was looked through
            memory.append(resident(seen.process.pid))
            seen.press("q")
            seen.ends(1)  # one job has failed
    assert memory[1] - memory[0] < MORE, memory
