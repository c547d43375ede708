"""The dashboard in real terminals that hang up, stall, shrink and die, over a real runner that must not notice."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task, until
from terminal import Terminal, terminal, tmux

from isobench_tui.engine import procs

PRESSES = 20
"""Keys, each with a new size, once the terminal takes no more. A writer that waits stops within half of them."""
FILL = 60
"""Keys at most until the kernel's buffer of the terminal, which is 64 KiB or less, is full."""
EVENTS = {"ISOBENCH_TUI_TAB": "events"}
"""A tab that shows the same whenever it was opened."""
DETACHED = "detached; the campaign goes on. `isobench attach` comes back\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def campaign(bench: Bench, gate: Path) -> Path:
    """Two jobs; the first waits for the gate, however slow the machine is."""
    return bench.write(task(A, GATE=str(gate)), task(B), timeouts='measure = "10m"\ngrace = "500ms"')


@pytest.fixture
def gate(bench: Bench) -> Path:
    """Of the first of two jobs, which is being measured and goes on once this file is there."""
    gate = bench.gate()
    bench.cli("run", campaign(bench, gate), "--detach")
    bench.reached(gate)
    return gate


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A run in whose first measurement many windows come and go; in the end its runner must have noticed nothing."""
    with bench_at(tmp_path_factory.mktemp("measuring")) as made:
        gate = made.gate()
        made.cli("run", campaign(made, gate), "--detach")
        made.reached(gate)
        pid = runner(made)
        yield made
        finishes(made, pid, gate)


def runner(bench: Bench) -> int:
    """The pid of the living runner."""
    found = bench.workspace.holder()
    assert found is not None
    return found


def finishes(bench: Bench, pid: int, gate: Path) -> None:
    """The same runner works the rest of the queue, and one attempt was enough for each job."""
    assert runner(bench) == pid
    gate.touch()
    until(lambda: set(bench.states().values()) == {"done"}, "both jobs end")
    assert [job["outcome"] for job in bench.jobs().values()] == ["success", "success"]
    assert bench.rows("SELECT count(*) AS n FROM attempts") == [{"n": 2}]


def beat(bench: Bench) -> str:
    """The runner's last sign of life."""
    return str(bench.rows("SELECT at FROM live WHERE key = 'runner'")[0]["at"])


def as_fresh(bench: Bench, window: Terminal) -> None:
    """Wait until the screen is what a dashboard that has just been opened shows; but for numbers that move."""

    def steady(terminal: Terminal) -> str:
        return re.sub(r"[\d.]+|[▏▎▍▌▋▊▉█░▁▂▃▄▅▆▇]+", "#", terminal.text)

    with terminal({**bench.env, **EVENTS}, "attach") as fresh:
        try:
            window.until(lambda: steady(window) == steady(fresh), "the screen of a fresh one")
        except AssertionError as error:
            raise AssertionError(f"{error}\nthe fresh one:\n{fresh.text}") from None


# ------------------------------------------------------------------------------------------ leaving and coming back


def test_q_detaches_and_attach_comes_back(bench: Bench) -> None:
    gate = bench.gate()
    with terminal(bench.env, "run", campaign(bench, gate)) as first:
        bench.reached(gate)
        first.shows("0/2 done", "aaaaaaaa baseline", "q Detach")
        pid = runner(bench)
        first.press("q")
        first.ends(0)
        first.assert_restored()
        assert first.said.endswith(DETACHED)
    with terminal(bench.env, "attach") as second:
        second.shows("0/2 done", "aaaaaaaa baseline")
        finishes(bench, pid, gate)
        second.shows("2/2 done")
        second.press("q")
        second.ends(0)
        second.assert_restored()
        assert second.said.splitlines()[-1].startswith("2 jobs: 2 ")


def test_the_exit_code_tells_of_failures(bench: Bench) -> None:
    with terminal(bench.env, "run", bench.write(task(A, FAKE="fail"), limits="max_attempts = 1")) as window:
        window.shows("1/1 done", "1 failed")
        window.press("q")
        window.ends(1)
        window.assert_restored()
        assert window.said.splitlines()[-1] == "1 job: 1 failed"


@pytest.mark.parametrize("key", ["\x03", "\x11"], ids=["ctrl+c", "ctrl+q"])
def test_keys_that_end_other_programs_only_detach(measuring: Bench, key: str) -> None:
    with terminal(measuring.env, "attach") as window:
        window.shows("0/2 done")
        window.press(key)
        window.ends(0)
        window.assert_restored()
        assert window.said == DETACHED
        assert b"TabPane" not in window.raw, "the first frame is of ours alone"


# --------------------------------------------------------------------------------------------- what kills a window


def test_a_closed_terminal_ends_the_dashboard_alone(measuring: Bench) -> None:
    with terminal(measuring.env, "attach") as window:
        window.shows("0/2 done")
        window.hang_up()
        assert window.process.wait(20) == 130


def test_a_terminal_that_vanishes_without_a_signal_ends_it_too(measuring: Bench) -> None:
    """Not its controlling terminal, so nobody sends SIGHUP; reading from it would return at once for ever."""
    with terminal(measuring.env, "attach", controlling=False) as window:
        window.shows("0/2 done")
        window.hang_up()
        assert window.process.wait(20) == 130


def test_sigkill_of_the_dashboard_touches_nothing(measuring: Bench) -> None:
    with terminal(measuring.env, "attach") as window:
        window.shows("0/2 done")
        window.process.kill()
        window.process.wait()
    since = beat(measuring)
    until(lambda: beat(measuring) != since, "the runner's next heartbeat")


def test_sigterm_leaves_the_terminal_as_it_was(measuring: Bench) -> None:
    with terminal(measuring.env, "attach") as window:
        window.shows("0/2 done")
        window.process.terminate()
        window.ends(0)
        window.assert_restored()
        assert window.said == DETACHED


# -------------------------------------------------------------------------------------- a terminal that reads no more


def stall(bench: Bench, window: Terminal, presses: int) -> None:
    """Read nothing while frames are drawn, `presses` of them on a full terminal; each key's command shows life."""
    before = _commands(bench)
    left = presses
    for number in range(1, FILL + presses + 1):
        window.size_unread(160 - number % 2, 48)
        window.press("p")
        what = f"command {number} by a key, though nothing is read"
        until(functools.partial(lambda wanted: _commands(bench) == wanted, before + number), what)
        left -= window.full
        if not left:
            break
    assert not left, "the terminal takes whatever is written"
    bench.cli("resume")


def _commands(bench: Bench) -> int:
    """How often a key has paused or resumed."""
    return len(bench.rows("SELECT 1 FROM commands WHERE name IN ('pause', 'resume')"))


def test_a_terminal_that_stops_reading_is_neither_waited_for_nor_lost(bench: Bench, gate: Path) -> None:
    pid = runner(bench)
    with terminal({**bench.env, **EVENTS}, "attach") as window:
        window.shows("0/2 done")
        since = beat(bench)
        stall(bench, window, PRESSES)
        until(lambda: beat(bench) != since, "the runner's heartbeat")
        finishes(bench, pid, gate)
        window.resize(160, 48)
        window.shows("2/2 done")
        as_fresh(bench, window)
        window.press("q")
        window.ends(0)
        window.assert_restored()


def test_sigterm_ends_a_dashboard_whose_terminal_does_not_read(measuring: Bench) -> None:
    with terminal(measuring.env, "attach") as window:
        window.shows("0/2 done")
        stall(measuring, window, 3)
        window.process.terminate()
        assert window.process.wait(20) in {0, 130}  # 0: the kernel found room for its last words after all


# ------------------------------------------------------------------------------------------------- size, company


def test_the_window_may_shrink_and_grow(measuring: Bench) -> None:
    with terminal({**measuring.env, **EVENTS}, "attach") as window:
        window.shows("0/2 done", "Machine")
        window.resize(80, 24)
        window.until(lambda: "Help" in window.lines[-1], "the footer at the bottom")
        window.shows("0/2 done", "aaaaaaaa baseline")
        window.resize(160, 48)
        window.shows("Machine")
        as_fresh(measuring, window)


def test_two_dashboards_steer_one_run(measuring: Bench) -> None:
    with terminal(measuring.env, "attach") as one, terminal(measuring.env, "attach") as two:
        for window in (one, two):
            window.shows("0/2 done", "running")
        one.press("p")
        one.shows("pausing by")
        two.shows("pausing by")
        two.press("p")
        two.shows("the queue goes on")
        one.until(lambda: "pausing by" not in one.text, "the resume of the other window")
        for window in (one, two):
            window.press("q")
            window.ends(0)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_in_tmux_it_resizes_copies_and_is_killed_with_its_window(measuring: Bench, tmp_path: Path) -> None:
    with tmux(tmp_path / "socket", measuring.env, "attach") as window:

        def shows(text: str) -> None:
            until(lambda: text in "\n".join(window.lines), f"{text!r} in tmux")

        shows("Machine")
        window.run("resize-window", "-x", "80", "-y", "24")
        until(lambda: "Help" in window.lines[23], "the footer of the small window")
        shows("0/2 done")
        window.press("c")
        shows("Commands of aaaaaaaa:baseline#1")
        window.press("y")
        until(lambda: window.run("list-buffers"), "the clipboard")
        assert "benchmark_throughput.py" in window.run("show-buffer")
        started = procs.start_time(window.pid)
        assert started is not None
        window.run("kill-session")
        until(lambda: not procs.is_alive(window.pid, started), "the end of the dashboard")
    since = beat(measuring)
    until(lambda: beat(measuring) != since, "the runner's next heartbeat")


# --------------------------------------------------------------------------------------------------- no dashboard


@pytest.mark.parametrize(
    ("argv", "env"),
    [(["--plain"], {}), ([], {"TERM": "dumb"}), ([], {"TERM": ""})],
    ids=["--plain", "TERM=dumb", "no TERM"],
)
def test_plain_text_where_it_is_asked_for_or_all_there_is(
    measuring: Bench, argv: list[str], env: dict[str, str]
) -> None:
    with terminal({**measuring.env, **env}, "attach", *argv) as window:
        window.shows("measure")
        window.press("\x03")
        window.ends(130)
        assert window.said.splitlines()[-1] + "\n" == DETACHED
        assert b"\x1b" not in window.raw


def test_plain_text_where_no_terminal_reads_or_types(bench: Bench) -> None:
    done = bench.cli("run", bench.write(task(A)), env={"TERM": "xterm-256color"})
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 job: 1 ")
