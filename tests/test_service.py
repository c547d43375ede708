"""The systemd user unit: its text by systemd's own checker, its command run as it stands, and what is said of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, Bench, bench_at, task

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


def command(bench: Bench) -> list[str]:
    """ExecStart as systemd reads it."""
    (line,) = [line for line in unit(bench).read_text().splitlines() if line.startswith("ExecStart=")]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]


def test_installed_asked_for_and_taken_away(bench: Bench) -> None:
    log = manager(bench)
    assert "not installed" in bench.cli("service", "status", code=1).stdout
    said = bench.cli("service", "install").stdout
    name = unit(bench).name
    assert "loginctl enable-linger" in said
    assert log.read_text().splitlines()[-3:-1] == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable {name}",
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


def test_its_command_is_a_runner_that_goes_on_with_the_queue(bench: Bench) -> None:
    manager(bench)
    bench.submit(bench.write(task(A)))
    bench.cli("service", "install")
    argv = command(bench)
    assert argv[-1] == str(bench.workspace.root)
    kept = [
        line.removeprefix("Environment=") for line in unit(bench).read_text().splitlines() if "Environment=" in line
    ]
    env = dict(shlex.split(pair)[0].replace("%%", "%").split("=", 1) for pair in kept)
    subprocess.run(argv, cwd="/", env={**env, "PYTHONDONTWRITEBYTECODE": "1"}, check=True, timeout=120)
    assert bench.rows("SELECT outcome FROM jobs") == [{"outcome": "success"}]


def test_run_has_systemd_start_the_runner_and_goes_on_without_it(bench: Bench) -> None:
    log = manager(bench, start="exit 1")
    bench.cli("service", "install")
    assert bench.cli("run", bench.write(task(A))).stdout.endswith("1 job: 1 valid\n")
    assert f"systemctl --user start --no-block {unit(bench).name}" in log.read_text()


def test_without_a_user_manager(bench: Bench) -> None:
    bench.env["PATH"] = "/nowhere"
    assert "`systemctl --user daemon-reload` failed" in bench.cli("service", "install", code=2).stderr


def test_a_second_runner_is_refused_with_who_holds_the_workspace(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate))))
    first = bench.runner()
    bench.reached(gate)
    assert bench.runner().wait(timeout=60) == 5
    assert f"another runner holds this workspace: isobench runner, pid {first.pid}" in bench.log()
    gate.touch()
    bench.wait_idle()
