"""The driver with real processes: setup, server, trials, deadlines, signals, and nothing left behind."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakevllm import MODEL, Run, make_tree, until

from isobench_tui.campaign.models import Override
from isobench_tui.engine import driver, procs
from isobench_tui.engine.job import DRIVER


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    left = procs.family(made.attempt)
    procs.kill(made.attempt)
    if made.process is not None:
        made.process.wait(timeout=10)
    assert not left, "the driver left processes behind"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_source_is_python_38_and_standard_library_only() -> None:
    tree = ast.parse(DRIVER.read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    newer = {"tomllib", "zoneinfo", "graphlib"}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names - newer


def old_python() -> str | None:
    for folder in [
        *os.environ["PATH"].split(":"),
        *map(str, Path("~/.pyenv/versions").expanduser().glob("3.8*/bin")),
    ]:
        python = Path(folder) / "python3.8"
        if python.exists() and subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0:
            return str(python)
    return None


def test_a_whole_attempt_on_python_38(tmp_path: Path) -> None:
    python = old_python()
    if python is None:
        pytest.skip("no Python 3.8 here")
    run = Run(tmp_path, python=python)
    assert run.run(run.trial("ok"), server=run.server(), pythons=(python,)) == 0
    assert run.one("start")["python"].startswith("3.8.")


def test_a_whole_attempt(run: Run) -> None:
    first, second = run.trial("ok", "--port", "{isobench:port}", "--dir", "{isobench:run}"), run.trial("ok", index=1)
    assert run.run(first, second, server=run.server()) == 0
    kinds = [event["event"] for event in run.events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    python = run.one("python")
    assert python["executable"] == sys.executable
    assert python["root"] == str(run.tree)
    assert python["vllm_version"] == "0.5.3"
    port = run.one("server")["port"]
    assert run.one("ready")["models"] == [MODEL]
    assert f"argv ['ok', '--port', '{port}', '--dir', '{run.dir}']" in run.log("client-00.log")
    trials = run.all("trial")
    assert [(t["index"], t["state"], t["seed"]) for t in trials] == [
        (0, "start", 0), (0, "end", 0), (1, "start", 1), (1, "end", 1)
    ]  # fmt: skip
    assert [t["exit_code"] for t in trials if t["state"] == "end"] == [0, 0]
    assert [(h["status"], h["alive"]) for h in run.all("health")] == [(200, True)] * 2
    assert [(p["phase"], p["state"]) for p in run.all("phase")] == [
        (name, state) for name in ("setup", "server", "measure") for state in ("start", "end")
    ]
    assert run.one("end") | {"at": 0, "boot": 0} == {
        "event": "end", "at": 0, "boot": 0, "exit_code": 0, "outcome": "ok", "phase": "measure"
    }  # fmt: skip
    assert len(run.one("client")["sha256"]) == 64
    assert {path.name for path in run.dir.iterdir()} == {
        "job.json", "events.jsonl", "setup.log", "server.log", "client-00.log", "client-01.log", "driver.log"
    }  # fmt: skip


def test_what_a_child_prints_is_in_its_log_at_once(run: Run) -> None:
    run.start(run.trial("gate"))
    until(lambda: "client gate" in run.log("client-00.log"))
    assert run.process is not None
    assert run.process.poll() is None
    (run.tree / "go").touch()
    assert run.process.wait(timeout=30) == 0


def test_secrets_reach_server_and_client_only(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    setup = ("echo setup sees ${TOKEN:-nothing}",)
    assert run.run(run.trial("env"), server=run.server(), secrets={"TOKEN": str(secret)}, setup=setup) == 0
    assert "token hush unbuffered 1" in run.log("client-00.log")
    assert "token: hush" in run.log("server.log")
    assert "setup sees nothing" in run.log("setup.log")
    assert "hush" not in run.log("events.jsonl")


# ---------------------------------------------------------------------------------------------------------- setup


def test_no_interpreter_with_vllm(run: Run) -> None:
    shutil.rmtree(run.tree / "vllm")
    assert run.run(pythons=("/nonexistent/python3", "python3")) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "env_broken")
    assert "/nonexistent/python3: not found" in fail["reason"]
    assert "python3: finds no vllm" in fail["reason"]


def test_the_first_interpreter_that_finds_vllm_is_used(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho this one is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    assert run.run(pythons=(str(broken), sys.executable)) == 0
    python = run.one("python")
    assert python["executable"] == sys.executable
    assert python["tried"][0] == f"{broken}: this one is broken"


def test_setup_commands_run_in_the_root_and_stop_at_the_first_failure(run: Run) -> None:
    assert run.run(setup=("pwd > here", "echo no wheel for it >&2; exit 7", "touch never")) == 1
    assert (run.tree / "here").read_text().strip() == str(run.tree)
    assert not (run.tree / "never").exists()
    assert [command["exit_code"] for command in run.all("setup_command")] == [0, 7]
    fail = run.one("fail")
    assert fail["failure"] == "env_broken"
    assert "no wheel for it" in fail["reason"]
    assert fail["file"] == "setup.log"


def test_a_missing_client_script_costs_no_server_start(run: Run) -> None:
    (run.tree / "client.py").unlink()
    assert run.run(server=run.server()) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "bench_script_missing")
    assert str(run.tree / "client.py") in fail["reason"]
    assert not run.all("server")


@pytest.mark.parametrize(
    ("version", "decided", "applied"),
    [("0.5.2", None, True), ("0.5.3.post1", None, False), ("0.5.4.dev3+gabc", True, True), ("unknown", False, False)],
)
def test_a_conditional_override(tmp_path: Path, version: str, decided: bool | None, applied: bool) -> None:
    make_tree(tmp_path / "tree", version)
    run = Run(tmp_path)
    override = Override(model=MODEL, use="fake/other", before_vllm="0.5.3.post1", decided=decided)
    assert run.run(run.trial("ok", "--model", "{isobench:model}"), server=run.server(), override=override) == 0
    assert run.one("override")["applied"] is applied
    used = "fake/other" if applied else MODEL
    assert run.one("ready")["models"] == [used]
    assert f"'--model', '{used}'" in run.log("client-00.log")


@pytest.mark.parametrize("version", ["0.5.4.dev3+gabc", "unknown"])
def test_a_development_version_needs_a_decision(tmp_path: Path, version: str) -> None:
    make_tree(tmp_path / "tree", version)
    run = Run(tmp_path)
    assert run.run(override=Override(model=MODEL, use="x", before_vllm="0.5.3")) == 1
    fail = run.one("fail")
    assert fail["failure"] == "harness_misconfig"
    assert "override = true" in fail["reason"]


def test_versions_sort_as_packaging_sorts_them() -> None:
    from packaging.version import Version

    texts = (
        "0.2.0", "0.5.2", "0.5.3rc1", "0.5.3.dev4", "0.5.3a1.dev2", "0.5.3a1", "0.5.3", "0.5.3.post1",
        "0.5.3.post1.dev2", "0.10.0", "1", "1.0.0", "v0.6.0+cu118", "0.6", "0.9.2b3", "0.6.post2",
    )  # fmt: skip

    def theirs(text: str) -> Any:
        return Version(Version(text).public)

    for a in texts:
        for b in texts:
            one, two = driver.version_key(a), driver.version_key(b)
            assert one is not None
            assert two is not None
            assert (one < two) == (theirs(a) < theirs(b)), (a, b)
    assert driver.version_key("unknown") is None


# --------------------------------------------------------------------------------------------------------- server


def test_a_server_that_dies_before_it_is_ready(run: Run) -> None:
    assert run.run(server=run.server("crash")) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"], fail["file"]) == ("server", "server_crash", "server.log")
    assert "exit code 1" in fail["reason"]
    assert "does not load" in run.log("server.log")
    assert not run.all("trial")


def test_a_server_that_is_killed(run: Run) -> None:
    assert run.run(server=run.server("killed")) == 1
    assert "signal 9 (SIGKILL)" in run.one("fail")["reason"]


def test_another_model_answers(run: Run) -> None:
    assert run.run(server=run.server("wrong")) == 1
    fail = run.one("fail")
    assert fail["failure"] == "port_in_use"
    assert "someone/else" in fail["reason"]


def test_a_port_that_is_taken(run: Run) -> None:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        server = run.server().model_copy(update={"port": sock.getsockname()[1]})
        assert run.run(server=server) == 1
    assert run.one("fail")["failure"] == "port_in_use"


@pytest.mark.parametrize("what", ["die", "sick"])
def test_a_client_that_succeeds_against_a_broken_server_is_no_success(run: Run, what: str) -> None:
    assert run.run(run.trial(what, "--port", "{isobench:port}"), run.trial("ok", index=1), server=run.server()) == 1
    health = run.one("health")
    assert (health["alive"], health["status"]) == ((False, None) if what == "die" else (True, 503))
    assert run.one("fail")["failure"] == "server_crash"
    assert [t["index"] for t in run.all("trial")] == [0, 0]


def test_a_fresh_server_per_trial(run: Run) -> None:
    trials = [run.trial("ok", index=i) for i in range(2)]
    assert run.run(*trials, server=run.server(), fresh_server=True) == 0
    first, second = run.all("server")
    assert first["pid"] != second["pid"]
    assert run.log("server.log").count("SIMULATED server") == 2
    assert [h["alive"] for h in run.all("health")] == [True, True]


# ------------------------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize(("what", "code", "signum"), [("fail", 5, None), ("signal", None, signal.SIGSEGV)])
def test_a_failed_client_ends_the_attempt(run: Run, what: str, code: int | None, signum: int | None) -> None:
    assert run.run(run.trial(what), run.trial("ok", index=1)) == 1
    end = run.all("trial")[-1]
    assert (end["index"], end["state"], end["exit_code"], end["signal"]) == (0, "end", code, signum)
    fail = run.one("fail")
    assert (fail["failure"], fail["file"]) == ("client_failed", "client-00.log")


def test_what_a_client_leaves_in_its_group_is_killed_before_the_next_trial(run: Run) -> None:
    run.start(run.trial("leave"), run.trial("gate", index=1))
    until(lambda: "client gate" in run.log("client-01.log"))
    left = int((run.tree / "left.pid").read_text())
    until(lambda: not alive(left))
    (run.tree / "go").touch()
    assert run.process is not None
    assert run.process.wait(timeout=30) == 0


# ------------------------------------------------------------------------------------------------------- deadlines


def test_setup_deadline(run: Run) -> None:
    assert run.run(setup=("trap '' TERM; sleep 600",), limits={"setup": 1}) == 124
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "timeout")
    assert run.one("end")["outcome"] == "timed_out"


@pytest.mark.parametrize("fault", ["never", "drip"])
def test_server_deadline(run: Run, fault: str) -> None:
    assert run.run(server=run.server(fault), limits={"server": 1.5}) == 124
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("server", "server_timeout")


def test_measure_deadline_though_the_client_talks(run: Run) -> None:
    assert run.run(run.trial("chatter"), server=run.server(), limits={"measure": 1}) == 124
    end = run.all("trial")[-1]
    assert (end["timed_out"], end["signal"]) == ("deadline", signal.SIGTERM)
    assert run.one("fail")["failure"] == "timeout"
    assert run.one("health")["alive"] is True
    assert run.log("client-00.log").count("still here") > 1


def test_silence_is_a_stall(run: Run) -> None:
    assert run.run(run.trial("silent"), limits={"stall": 1}) == 124
    assert run.all("trial")[-1]["timed_out"] == "stall"
    assert "wrote nothing" in run.one("fail")["reason"]


def test_growth_of_the_log_is_life(run: Run) -> None:
    run.start(run.trial("chatter"), limits={"stall": 1, "measure": 4})
    assert run.process is not None
    assert run.process.wait(timeout=30) == 124
    assert run.all("trial")[-1]["timed_out"] == "deadline"


@pytest.mark.parametrize(
    ("phase", "job"),
    [("setup", {"setup": ("sleep 600",)}), ("server", {"server": "never"}), ("measure", {})],
)
def test_overall_deadline(run: Run, phase: str, job: dict[str, Any]) -> None:
    if "server" in job:
        job = {"server": run.server(job["server"])}
    assert run.run(run.trial("silent"), limits={"overall": 1.5}, **job) == 124
    assert run.one("fail")["phase"] == phase


# ---------------------------------------------------------------------------------------------- ending what it began


def test_a_server_that_ignores_sigterm_is_killed(run: Run) -> None:
    assert run.run(server=run.server("stubborn")) == 0
    assert not alive(run.one("server")["pid"])


@pytest.mark.parametrize("engine", [{"engine": "process"}, {"engine": "docker", "tree": None}])
@pytest.mark.parametrize("fault", ["daemon", "hidden-daemon"])
def test_a_daemon_of_the_server_is_killed(run: Run, fault: str, engine: dict[str, Any]) -> None:
    """As the docker engine starts it there is no tree: vllm is found from the working directory."""
    note = run.tree / "daemon.pid"
    run.start(run.trial("gate"), server=run.server(fault), **engine)
    until(lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    assert alive(pid)
    (run.tree / "go").touch()
    assert run.process is not None
    assert run.process.wait(timeout=30) == 0
    assert not alive(pid)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["setup", "server", "measure"])
def test_a_signal_ends_everything(run: Run, signum: int, phase: str) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "setup": {"setup": ("sleep 600",)},
        "server": {"server": run.server("never")},
        "measure": {"server": run.server("stubborn")},
    }
    run.start(run.trial("silent"), **jobs[phase])
    assert run.process is not None
    log = {"setup": "setup.log", "server": "server.log", "measure": "client-00.log"}[phase]
    until(lambda: run.log(log) and (phase != "setup" or "sleep" in run.log(log)))
    run.process.send_signal(signum)
    assert run.process.wait(timeout=30) == 143
    end = run.one("end")
    assert (end["outcome"], end["exit_code"], end["phase"]) == ("stopped", 143, phase)
    assert not run.all("fail")


def test_a_log_that_was_replaced_by_a_link_is_not_followed(run: Run, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    (run.dir / "client-00.log").symlink_to(victim)
    assert run.run() == 1
    assert victim.read_text() == "mine\n"
    assert run.one("fail")["failure"] == "harness_misconfig"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_what_it_made_is_given_to_the_owner(run: Run) -> None:
    assert run.run(owner={"uid": 1234, "gid": 1235}) == 0
    found = (run.dir / "client-00.log").stat()
    assert (found.st_uid, found.st_gid) == (1234, 1235)
