"""The systemd user unit: its text by systemd's own checker, its command run as it stands, and what is said of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, Bench, bench_at, task, until

RECORD = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in *is-enabled*) echo enabled;; *Linger*) cat "{linger}";; *start*) {start};; esac
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "a place 100% odd $HOME"
    root.mkdir()
    with bench_at(root) as made:
        yield made


def manager(bench: Bench, start: str = "true") -> Path:
    """A systemctl and a loginctl that note how they are called: where tests run there is no user manager."""
    folder, log = bench.root / "bin", bench.root / "called"
    folder.mkdir()
    (bench.root / "linger").write_text("no")
    for name in ("systemctl", "loginctl"):
        script = folder / name
        script.write_text(
            RECORD.format(log=log, linger=bench.root / "linger", start=start).replace("$HOME", "\\$HOME")
        )
        script.chmod(0o755)
    bench.env["PATH"] = f"{folder}:{bench.env['PATH']}"
    return log


def unit(bench: Bench) -> Path:
    (found,) = (Path(bench.env["XDG_CONFIG_HOME"]) / "systemd" / "user").glob("*.service")
    return found


def test_installed_asked_for_and_taken_away(bench: Bench) -> None:
    log = manager(bench)
    assert "not installed" in bench.cli("service", "status", code=1).stdout
    said = bench.cli("service", "install").stdout
    name = unit(bench).name
    assert "loginctl enable-linger" in said
    assert log.read_text().splitlines()[-3:-1] == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now --no-block {name}",
    ]
    (bench.root / "linger").write_text("yes")
    assert "enable-linger" not in bench.cli("service", "install").stdout
    assert f"{name}, enabled\nlingering: yes" in bench.cli("service", "status").stdout
    path = unit(bench)
    bench.cli("service", "uninstall")
    assert not path.exists()
    assert "no service is installed" in bench.refused("service", "uninstall")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_reads_the_unit_as_it_is_meant(bench: Bench) -> None:
    manager(bench)
    bench.cli("service", "install")
    env = {**os.environ, "XDG_RUNTIME_DIR": str(bench.root)}
    argv = ["systemd-analyze", "--user", "--man=no", "verify", str(unit(bench))]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert unit(bench).name not in done.stderr, done.stderr


def by_systemd(bench: Bench) -> subprocess.Popen[bytes]:
    """What systemd would start: the unit's command with the unit's environment, and nothing else."""
    text = unit(bench).read_text().splitlines()
    kept = [line.removeprefix("Environment=") for line in text if line.startswith("Environment=")]
    env = dict(shlex.split(pair)[0].replace("%%", "%").split("=", 1) for pair in kept)
    (command,) = [line.removeprefix("ExecStart=") for line in text if line.startswith("ExecStart=")]
    argv = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    with bench.workspace.runner_log.open("ab") as log:
        return subprocess.Popen(argv, cwd="/", env={**env, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=log, stderr=log)


def test_its_command_is_a_runner_that_goes_on_with_the_queue(bench: Bench) -> None:
    manager(bench)
    bench.submit(bench.write(task(A)))
    bench.cli("service", "install")
    assert by_systemd(bench).wait(timeout=120) == 0, bench.log()
    assert bench.rows("SELECT outcome FROM jobs") == [{"outcome": "success"}]


@pytest.mark.parametrize("orderly", [False, True])
def test_it_takes_the_place_of_a_runner_that_dies_and_of_none_that_was_told_to_end(
    bench: Bench, orderly: bool
) -> None:
    manager(bench)
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate))))
    bench.cli("service", "install")
    first = bench.runner()
    bench.reached(gate)
    second = by_systemd(bench)
    waits = re.compile(rf"-> FLOCK\s+ADVISORY\s+READ\s+{second.pid} ")
    until(lambda: waits.search(Path("/proc/locks").read_text()), "it waits for the lock")
    if orderly:
        bench.cli("shutdown", "--now")
        assert first.wait(timeout=60) == 0
    else:
        first.kill()
        until(lambda: bench.workspace.holder() == second.pid, "it holds the workspace")
        gate.touch()
    assert second.wait(timeout=120) == 0, bench.log()
    assert bench.jobs()["a:baseline#1"]["state"] == ("running" if orderly else "done")
    if orderly:
        gate.touch()
        bench.cli("service", "uninstall")
        assert bench.cli("run").stdout.endswith("1 job: 1 valid\n")


def test_run_has_systemd_start_the_runner_and_goes_on_without_it(bench: Bench) -> None:
    log = manager(bench, start="exit 1")
    bench.cli("service", "install")
    assert bench.cli("run", bench.write(task(A))).stdout.endswith("1 job: 1 valid\n")
    assert f"systemctl --user start --no-block {unit(bench).name}" in log.read_text()


def test_without_a_user_manager(bench: Bench) -> None:
    bench.env["PATH"] = "/nowhere"
    assert "`systemctl --user daemon-reload` failed" in bench.cli("service", "install", code=2).stderr
