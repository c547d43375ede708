"""`isobench import`: old results in the store, beside measured ones and never among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from legacy_files import COMMIT, CRASH, PULL, RECORDED, REJECTED, failed, threeway, write

from isobench_tui.campaign.load import load
from isobench_tui.cli.main import main
from isobench_tui.store import commands, db
from isobench_tui.store.submit import submit
from isobench_tui.store.workspace import Workspace

FOLDER = "omniperf_results_3way_trae_gpt5"
REPO = Path(__file__).parents[1]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    results = tmp_path / FOLDER / "results"
    write(results, f"{COMMIT[:8]}_agent_result.json", threeway())
    write(results, f"{COMMIT[:8]}_human_result.json", threeway(raw_output=PULL))
    write(results, "4567abcd_agent_result.json", failed("x", REJECTED + CRASH, human_commit="4567abcd",
                                                        human_commit_full="4567abcd"))  # fmt: skip
    write(results, "broken.json", "{")
    return results


def call(workspace: Path, *argv: str | Path) -> int:
    name, *rest = (str(arg) for arg in argv)
    return main([name, "--workspace", str(workspace), *rest])


def rows(workspace: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert call(workspace, "export", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    return [row for row in found if "outcome" in row]


def test_what_is_imported(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = tmp_path / "w"
    assert call(workspace, "import", archive) == 0
    out, err = capsys.readouterr()
    assert out == f"campaign legacy-{FOLDER}: 3 jobs imported\n"
    assert "not imported" in err
    assert "broken.json" in err
    found = {(row["commit"][:8], row["arm"]): row for row in rows(workspace, capsys)}
    assert set(found) == {("4567abcd", "agent"), (COMMIT[:8], "agent"), (COMMIT[:8], "human")}
    success = found[COMMIT[:8], "agent"]
    assert (success["outcome"], success["valid"], success["agent"]) == ("success", False, "trae_gpt5")
    assert success["metrics"]["output_throughput"]["value"] == 2560
    assert success["fingerprint"].startswith("legacy-")
    unverified = next(flag for flag in success["flags"] if flag["name"] == "legacy_unverified")
    assert unverified["effect"] == "invalidates"
    assert f"{COMMIT[:8]}_agent_result.json" in unverified["text"]
    unproven = found[COMMIT[:8], "human"]
    assert unproven["metrics"]["output_throughput"]["value"] == RECORDED["output_token_throughput_tok_s"]
    assert "evidence_missing" in {flag["name"] for flag in unproven["flags"]}
    lost = found["4567abcd", "agent"]
    assert (lost["outcome"], lost["class"], lost["evidence_line"]) == ("failed", "patch_not_applied", 3)
    assert lost["metrics"] == {}
    assert call(workspace, "status") == 0
    assert "nothing is left to do" in capsys.readouterr().out
    assert not list((workspace / "runs").iterdir())
    assert call(workspace, "export") == 0
    table = capsys.readouterr().out
    assert "| imported | " in table
    assert "measured |" not in table
    assert "## Agents" not in table, "they have no success rate of ours"


def test_importing_again_adds_only_what_is_new(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = tmp_path / "w"
    assert call(workspace, "import", archive, "--campaign", "old") == 0
    write(archive, f"{COMMIT[:8]}_baseline_result.json", threeway(duration_s=1))
    assert call(workspace, "import", archive, "--campaign", "old") == 0
    assert "campaign old: 1 job imported, 3 were there already" in capsys.readouterr().out
    assert len(rows(workspace, capsys)) == 4


def test_nothing_imported_can_run(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = tmp_path / "w"
    assert call(workspace, "import", archive, "--campaign", "old") == 0
    assert call(workspace, "retry", COMMIT[:8]) == 2
    assert call(workspace, "retry", "--failed") == 2
    assert "neither an image nor a command" in capsys.readouterr().err
    assert {row["state"] for row in rows(workspace, capsys)} == {"done"}


def test_a_measured_campaign_is_not_imported_into(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path / "w")
    connection = db.create_store(workspace)
    submission = load(REPO / "examples" / "demo" / "campaign.toml")
    with db.transaction(connection):
        submit(connection, submission, "test")
    assert call(workspace.root, "import", archive, "--campaign", submission.name) == 2
    assert "was measured here" in capsys.readouterr().err
    assert call(workspace.root, "import", archive) == 0
    left = connection.execute("SELECT args FROM commands WHERE name = 'import' AND state = 'done'").fetchone()
    assert json.loads(left["args"]) == {"name": f"legacy-{FOLDER}"}, "the records are in their tables, not here too"
    with db.transaction(connection):
        answer = submit(connection, submission, "test")
    assert answer.data["kept"] == len(submission.jobs), "imported campaigns have no say in engine and lanes"
    connection.close()


def test_the_runner_does_it_where_one_lives(archive: Path, tmp_path: Path) -> None:
    """Whoever holds the lock executes the command; the sender only waits for its answer."""
    workspace = Workspace(tmp_path / "w")
    connection = db.create_store(workspace)
    with workspace.lock("test"):
        answer = commands.call(
            workspace, connection, "import", {"name": "n", "source": "s", "rows": []}, patience=0.2
        )
        assert answer.exit_code == 2, "withdrawn: this runner does not answer"
        commands.send(connection, "import", {"name": "n", "source": "s", "rows": []})
        assert commands.drain(connection) == 1
    assert connection.execute("SELECT count(*) FROM campaigns WHERE name = 'n'").fetchone()[0] == 1
    connection.close()


def test_nothing_to_import(tmp_path: Path) -> None:
    assert call(tmp_path / "w", "import", tmp_path) == 2
    assert not (tmp_path / "w").exists()
