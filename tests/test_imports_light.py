"""What only looks at the store starts at once: it imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import REPO, A, Bench, bench_at, task

HEAVY = {"textual", "docker", "aiohttp", "scipy", "numpy", "pydantic", "asyncio", "requests", "urllib3"}

PROGRAM = """
import json, sys
from isobench_tui.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_at(tmp_path_factory.mktemp("light")) as made:
        made.submit(made.write(task(A)))
        made.workspace.run_dir(made.begin("a:baseline#1")).mkdir()
        yield made


@pytest.mark.parametrize(
    "argv",
    [
        ["status"],
        ["status", "--json"],
        ["logs", "aaaa"],
        ["pause"],
        ["resume"],
        ["hold", "aaaa"],
        ["stop"],
    ],
    ids=" ".join,
)
def test_imports_nothing_heavy(bench: Bench, argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        cwd=REPO,
        env=bench.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert HEAVY & set(modules) == set()
    assert "isobench_tui" in modules


def test_status_without_a_workspace_needs_platformdirs_only(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "status"],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 2
    assert "platformdirs" in modules
    assert HEAVY & set(modules) == set()


@pytest.mark.parametrize("command", ["status", "logs", "pause", "resume", "skip", "stop"])
def test_the_smaller_parser_of_a_command_reads_the_same(command: str) -> None:
    from isobench_tui.cli.parser import build

    argv = [command, *(["58ee"] if command in {"logs", "skip", "stop"} else []), "--workspace", "w"]
    assert build(command).parse_args(argv) == build().parse_args(argv)


def test_the_dashboard_starts_without_what_its_tabs_need() -> None:
    """Tabs are made when they are opened, so that the queue is on the screen earlier."""
    program = "import json, sys, isobench_tui.tui.app; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    late = {"report.leaderboard", "report.export", "report.why", "results.compare", "campaign.models"}
    assert "isobench_tui.tui.board" in modules
    assert {"pydantic", "scipy", "numpy", *(f"isobench_tui.{name}" for name in late)} & modules == set()
