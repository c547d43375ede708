"""The demo's patches and campaign: each does what its name says, and the campaign is the published one."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from demotree import DEMO, PATCHES, REPO, TREE, apply, copied, environment, free_port, patched, run

from isobench_tui.campaign.load import load
from isobench_tui.campaign.spec import CampaignFile

MAPPING = REPO.parent / "shared" / "data" / "iso-bench" / "benchmark_mode_mapping.subset.json"


@pytest.mark.parametrize("path", sorted(PATCHES.glob("*.diff")), ids=lambda path: path.stem)
def test_each_diff_applies_or_does_not(path: Path, tmp_path: Path) -> None:
    copy = copied(tmp_path)
    expected = path.stem != "does-not-apply"
    assert (apply(copy, path.stem, "--check") == 0) is expected
    dry = subprocess.run(
        ["patch", "-p1", "-F0", "--dry-run", "-i", str(path)], cwd=copy, capture_output=True, timeout=60, check=False
    )
    assert (dry.returncode == 0) is expected
    if path.stem == "empty":
        assert re.findall(r"^diff --git .*$", path.read_text(), re.MULTILINE) == [
            "diff --git a/model_patch.diff b/model_patch.diff"
        ]


RATES = """
import json, logging
logging.disable(logging.CRITICAL)
from vllm.config import EngineConfig
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.engine.llm_engine import LLMEngine
from vllm.sequence import Sequence

def requests(engine, count, given, asked):
    for number in range(count):
        engine.add_request(Sequence(str(number), [number] * given, asked, 0.0, lambda tokens, finished: None))

served = AsyncLLMEngine(EngineConfig("m"))
requests(served, 100, 1024, 128)
serving = 0.0
while served.engine.has_unfinished_requests():
    outputs, seconds = served.advance()
    serving += seconds
    served.send(outputs, serving)
plain = LLMEngine(EngineConfig("m"))
requests(plain, 200, 256, 256)
offline = 0.0
while plain.has_unfinished_requests():
    offline += plain.step()[1]
print(json.dumps([100 * 128 / serving, 200 * 256 / offline]))
"""


def rates(tree: Path) -> tuple[float, float]:
    """Output tokens per simulated second, serving and offline: what the constants in the tree say, not the clock."""
    argv = [sys.executable, "-c", RATES]
    done = subprocess.run(
        argv, cwd=tree, env=environment(tree), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    serving, offline = json.loads(done.stdout)
    return serving, offline


def test_patches_are_as_fast_as_they_are_called(tmp_path: Path) -> None:
    base = rates(TREE)
    got = {name: rates(patched(tmp_path, name)) for name in names("faster-") | {"human", "slower"}}
    assert rates(TREE) == base
    for name, (serving, offline) in got.items():
        if name.startswith("faster-"):
            assert serving >= base[0]
            assert offline >= base[1]
            assert serving > 1.1 * base[0] or offline > 1.1 * base[1], name
    assert got["faster-frontend"][0] > 2 * base[0] > 4 * got["slower"][0]
    assert got["faster-frontend"][0] > 1.1 * got["faster-batch-output"][0] > 1.2 * got["faster-overlap"][0]
    assert got["human"][1] > 1.4 * base[1]
    assert got["human"][0] > 1.1 * base[0]


def names(prefix: str) -> set[str]:
    return {path.stem for path in PATCHES.glob(f"{prefix}*.diff")}


def test_breaks_server_ends_it_with_the_cause_in_the_log(tmp_path: Path) -> None:
    tree = patched(tmp_path, "breaks-server")
    done = run(tree, "vllm.entrypoints.openai.api_server", "--port", str(free_port()))
    assert done.returncode == 1
    assert "NameError: name 'BatchDetokenizer' is not defined" in done.stdout
    assert f'File "{tree}/vllm/engine/llm_engine.py"' in done.stdout
    assert done.stdout.rstrip().endswith("RuntimeError: Engine core initialization failed. See root cause above.")


def sources() -> list[Path]:
    return sorted(path for path in TREE.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(TREE)))
def test_runs_on_python_3_8_with_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module or ""]
        for name in found:
            assert name.split(".")[0] in sys.stdlib_module_names | {"vllm"}
        if isinstance(node, ast.Call):
            assert not (ast.unparse(node.func) == "zip" and node.keywords), "zip(strict=) is Python 3.10"


def test_nothing_compiled_in_the_repository() -> None:
    if not (REPO / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "examples"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    assert not [name for name in listed.splitlines() if name.endswith((".pyc", ".so"))]


GPT5 = {"19d98e0c", "58eee5f2", "a3223766", "b690e348", "bc7c4d20", "d7740ea4"}
SONNET = {
    *("9ed82e70", "b690e348", "d7740ea4", "e206b543", "e3580537"),
    *("e7b20426", "fa63e710", "fc542144", "fc7b8d1e", "fe66b347"),
}


def campaign(name: str) -> CampaignFile:
    with (DEMO / name).open("rb") as file:
        return CampaignFile.model_validate(tomllib.load(file))


def test_campaign_has_the_16_runs_and_their_baselines() -> None:
    spec = campaign("campaign.toml")
    assert spec.campaign.simulated
    assert spec.engine.kind == "process"
    runs = {(agent, task.commit[:8]) for task in spec.tasks for agent in task.patches}
    assert runs == {("trae_gpt5_0123", c) for c in GPT5} | {("trae_sonnet45_0123", c) for c in SONNET}
    assert len(spec.tasks) == len({task.commit for task in spec.tasks}) == 14
    assert sorted(task.repeats for task in spec.tasks if task.repeats) == [3, 3]
    assert len(load(DEMO / "campaign.toml").jobs) == 38
    overridden = {row.model: row.use for row in spec.model_overrides}
    assert overridden["meta-llama/Llama-3.1-8B-Instruct"] == "meta-llama/Meta-Llama-3-8B-Instruct"
    for task in spec.tasks:
        assert bool(task.override) is ("--model meta-llama/Llama-3.1" in (task.perf_command or ""))


@pytest.mark.parametrize("name", ["campaign.toml", "docker/campaign.toml"])
def test_campaign_names_files_that_exist(name: str) -> None:
    spec = campaign(name)
    folder = (DEMO / name).parent
    submission = load(DEMO / name)
    assert submission.settings.simulated
    assert not [finding for finding in submission.findings if finding.level == "error"]
    for task in spec.tasks:
        for path in task.patches.values():
            assert (folder / path).is_file(), path
    if spec.engine.kind == "process":
        assert spec.images.baseline is not None
        assert (folder / spec.images.baseline / "vllm" / "__init__.py").is_file()


def test_campaign_runs_the_published_commands() -> None:
    if not MAPPING.exists():
        pytest.skip("no published mapping beside this checkout")
    published = json.loads(MAPPING.read_text())
    for task in campaign("campaign.toml").tasks:
        row = published[task.commit[:8]]
        assert task.commit.startswith(row["commit_full"])
        assert task.parent == row["parent_commit"]
        if row["perf_command"] is not None:
            assert task.perf_command == row["perf_command"]
