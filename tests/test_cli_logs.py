"""`logs`: while they are written, across phases and attempts, and whatever a hostile process wrote into them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import REPO, SERVING, A, B, Bench, bench_at, task, until

from isobench_tui.results.models import Diagnosis, Verdict
from isobench_tui.store.attempts import Done, Ending, Requeue

EVIL = (
    b"plain\x1b[31m red \x1b[0m\x1b]0;a title\x07 bell\x07 \x1b]52;c;Y2xpcA==\x1b\\ clip\n"
    b"\x1b[2J\x1b[H\x1b[?1049hscreen\n"
    b"\xff\xfe not utf-8 \xc3\x28\n"
    b"bar  1%\rbar 50%\rbar 100%\r\n"
    b"right to left \xe2\x80\xae txt\n"
    b"\x9b31mC1\x00nul\n"
    b"\ttab\tbed\n" + b"x" * 10_000 + b"\n"
    b"the last line has no end"
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def attempt_of(bench: Bench, name: str = "a:baseline#1") -> Path:
    """A run directory without a run, to put logs into."""
    attempt = bench.begin(name)
    run_dir = bench.workspace.run_dir(attempt)
    run_dir.mkdir(mode=0o700)
    return run_dir


def test_follow_shows_lines_as_they_come_from_every_phase_until_the_job_ends(bench: Bench) -> None:
    first, gate = bench.gate("first"), bench.gate()
    bench.cli(
        "run",
        bench.write(task(B, GATE=str(first)), task(A, SERVING, GATE=str(gate), SAY="SIMULATED hello")),
        "--detach",
    )
    bench.reached(first)
    follow = bench.start("logs", "-f", "aaaa")
    first.touch()
    bench.reached(gate)
    follow.says("server    | SIMULATED server\n")
    follow.says("client-00 | SIMULATED hello\n")
    assert follow.process.poll() is None, "the job has not ended"
    assert "Benchmark Result" not in follow.out
    gate.touch()
    said = follow.ends(0)
    assert "Serving Benchmark Result" in said
    assert said.index("server    |") < said.index("client-00 |")
    assert len(re.findall(r"^== j", said, re.MULTILINE)) == 1


def test_follow_goes_on_with_the_next_attempt(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate), FAKE="fail")), "--detach")
    bench.reached(gate)
    follow = bench.start("logs", "-f", "aaaa", "--json")
    follow.says("SIMULATED client")
    gate.touch()
    lines = [json.loads(line) for line in follow.ends(0).splitlines()]
    assert [line["text"] for line in lines].count("RuntimeError: broken on purpose") == 2
    plain = bench.cli("logs", "-f", "aaaa").stdout.splitlines()
    assert plain[0].endswith("-2"), "of an ended job the newest attempt"


def test_follow_loses_no_last_line_of_an_attempt_when_the_next_one_is_quick(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    first = attempt_of(bench)
    (first / "setup.log").write_bytes(b"one\n")
    because = Diagnosis("client_failed", "undetermined", "because")
    again = Ending(Verdict("failed", diagnosis=because), Requeue("behind", "retry"), counts=True)
    with bench.workspace.lock("isobench runner"):
        follow = bench.start("logs", "-f", "aaaa")
        follow.says("one\n")
        follow.process.send_signal(signal.SIGSTOP)
        (first / "setup.log").write_bytes(b"one\nthe last of one\n")
        bench.finish(first.name, again)
        second = attempt_of(bench)
        (second / "setup.log").write_bytes(b"two\n")
        bench.finish(second.name, Ending(Verdict("success"), Done(), counts=True))
        follow.process.send_signal(signal.SIGCONT)
        lines = [line.removeprefix("setup     | ") for line in follow.ends(0).splitlines()]
    assert lines == [f"== {first.name}", "one", "the last of one", f"== {second.name}", "two"]


def test_follow_ends_with_the_runner(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    assert "has not run yet" in bench.refused("logs", "-f", "aaaa", code=4)
    (attempt_of(bench) / "setup.log").write_bytes(b"one\n")
    assert bench.cli("logs", "-f", "aaaa").stdout.endswith("setup     | one\n")


def test_what_a_terminal_would_obey_is_taken_out(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    (attempt_of(bench) / "client-00.log").write_bytes(EVIL)
    out = bench.cli("logs", "aaaa").stdout
    assert all(line.isprintable() for line in out.splitlines()), out
    lines = [line.removeprefix("client-00 | ") for line in out.splitlines()[1:]]
    assert lines[0] == "plain red  bell�  clip"
    assert lines[1] == "screen"
    assert lines[3] == "bar 100%", "of a progress bar what would still be seen"
    assert re.fullmatch(r"x{4096} … 5904 more characters", lines[7])
    assert lines[8] == "the last line has no end"
    rows = [json.loads(line) for line in bench.cli("logs", "aaaa", "--json").stdout.splitlines()]
    assert [row["text"] for row in rows] == lines
    assert [row["line"] for row in rows] == list(range(1, 10))


def test_a_dropped_middle_is_said_and_costs_nothing(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    with (attempt_of(bench) / "server.log").open("wb") as log:
        log.write(b"head\nbroken o")
        log.truncate(1024**4)
        log.seek(1024**4)
        log.write(b"ff\ntail\n")
    lines = [line.removeprefix("server    | ") for line in bench.cli("logs", "aaaa").stdout.splitlines()[1:]]
    assert lines[:2] == ["head", "broken o"]
    assert re.fullmatch(r"\[\d{13} bytes were dropped to keep this log below its cap\]", lines[2])
    assert lines[3:] == ["ff", "tail"]


@pytest.mark.parametrize("hostile", ["symlink", "fifo", "folder", "run"])
def test_logs_that_are_no_files_are_named_and_not_read(bench: Bench, hostile: str) -> None:
    bench.submit(bench.write(task(A)))
    run_dir = attempt_of(bench)
    (run_dir / "setup.log").write_bytes(b"fine\n")
    path = run_dir / "server.log"
    if hostile == "symlink":
        path.symlink_to("/etc/passwd")
    elif hostile == "fifo":
        os.mkfifo(path)
    elif hostile == "folder":
        path.mkdir()
    else:
        (run_dir / "setup.log").unlink()
        run_dir.rmdir()
        run_dir.symlink_to("/etc")
    done = bench.cli("logs", "aaaa")
    assert "root" not in done.stdout
    if hostile != "run":
        assert done.stdout.endswith("setup     | fine\n")
        assert done.stderr.startswith("isobench: server.log is not a plain file")
        assert len(done.stderr.splitlines()) == 1


def test_what_is_not_there(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    bench.begin("a:baseline#1")
    job = bench.id("a:baseline#1")
    assert bench.refused("logs", "aaaa", "--attempt", "2", code=4) == f"isobench: {job} has no attempt 2; it has 1"
    assert bench.refused("logs", "aaaa", "--attempt", "-1", code=4).endswith("has no attempt -1; it has 1")
    assert "has no log 'nothing'" in bench.refused("logs", "aaaa", "--file", "nothing", code=4)


# --------------------------------------------------------------------------------------------- closed pipes


def head(bench: Bench, *argv: str) -> tuple[bytes, bytes, int]:
    """`isobench … | head -c 10`: what came out, what was complained, the exit code."""
    child = subprocess.Popen(
        [sys.executable, "-m", "isobench_tui", *argv],
        cwd=REPO,
        env=bench.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    first = child.stdout.read(10)
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    return first, err, child.wait(timeout=60)


@pytest.mark.parametrize(
    "argv",
    [
        ("logs", "aaaa"),
        ("logs", "aaaa", "--json"),
        ("status",),
        ("status", "--json"),
        ("export", "--format", "csv"),
        ("plan", "campaign.toml"),
    ],
)
def test_a_pipe_that_is_closed_early_is_no_complaint(bench: Bench, argv: tuple[str, ...]) -> None:
    path = bench.write(*(task(f"{number:040x}") for number in range(10, 410)), task(A))
    bench.submit(path)
    with (attempt_of(bench) / "setup.log").open("wb") as log:
        log.write(b"a line of some length, again and again\n" * 50_000)
    argv = tuple(str(path) if word == "campaign.toml" else word for word in argv)
    first, err, code = head(bench, *argv)
    assert len(first) == 10
    assert (err, code) == (b"", 0)


def test_a_follower_whose_pipe_is_closed_ends(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate), FAKE="hang"), limits="max_attempts = 1"), "--detach")
    bench.reached(gate)
    gate.touch()
    _, err, code = head(bench, "logs", "-f", "aaaa")
    assert (err, code) == (b"", 0)
    bench.cli("stop")
    bench.cli("shutdown", "--now", "--wait")


def test_a_narrow_locale_fails_nobody(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    (attempt_of(bench) / "setup.log").write_bytes("größer\n".encode())
    narrow = {"PYTHONIOENCODING": "ascii"}
    assert bench.cli("logs", "aaaa", env=narrow).stdout.endswith("gr\\xf6\\xdfer\n")
    until(lambda: bench.cli("status", env=narrow).returncode == 0, "a status")
