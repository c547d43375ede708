"""The campaign file: what it may say, what it becomes, and how it is refused."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from campaign_files import (
    COMMIT,
    DIFF,
    HEAD,
    IMAGES,
    OTHER,
    PARENT,
    SERVE,
    loaded,
    refused,
    task,
    write,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from isobench_tui.campaign.load import SpecError, load, parse
from isobench_tui.campaign.models import Submission
from isobench_tui.campaign.quantities import seconds, size
from isobench_tui.campaign.spec import CampaignFile, TaskTable


def test_the_designs_own_file_loads(tmp_path: Path) -> None:
    write(tmp_path, DIFF, "patches/x.diff")
    (tmp_path / "wheels").mkdir()
    text = f"""
[campaign]
name = "trae-2026-01-24"
repeats = 3
arms = ["baseline", "human", "agent"]
[images]
baseline = "shikhar481/vllm_fixed_human_images:baseline-{{parent:.12}}"
human    = "ayushnangia16/nvidia-vllm-docker:{{commit}}"
keep     = "shared"
[engine]
kind = "docker"
host = "unix:///run/docker.sock"
[container]
shm_size = "16g"
network  = "none"
volumes  = ["/ephemeral/datasets:/data:ro"]
memory = "200g"
pids = 4096

[model]
cache = "/ephemeral/huggingface_cache"
secrets = ["HF_TOKEN"]
[env]
VLLM_USE_V1 = "0"
[server]
args = ["--disable-log-requests"]
[measure]
trials = 2
warmups = 1
[[setup]]
images = "*baseline-{PARENT[:12]}"
run = "pip install --no-index --find-links /wheels 'transformers==4.44.2'"
wheels = "wheels/"
[[lanes]]
gpus = ["0"]
[timeouts]
image = "1h30m"
grace = 5
[limits]
max_attempts = 4
same_failure = 2
min_window = "45s"
[logs]
cap = "1GiB"
[[model_overrides]]
model = "facebook/opt-125m"
use   = "facebook/opt-350m"
before_vllm = "0.5.3.post1"
reason = "why"
[[tasks]]
commit = "{COMMIT}"
parent = "{PARENT}"
model  = "facebook/opt-125m"
perf_command = "{SERVE} --seed 7"
patches.trae_gpt5_0123 = "patches/x.diff"
server_args = ["--max-model-len", "512"]
env.VLLM_LOGGING_LEVEL = "INFO"
repeats = 2
mode = "serving"
override = true
hub = "offline"
"""
    made = loaded(tmp_path, text)
    settings = made.settings
    assert (settings.engine, settings.docker_host) == ("docker", "unix:///run/docker.sock")
    assert settings.container.shm_size == 16 * 1024**3
    assert settings.container.volumes == ("/ephemeral/datasets:/data:ro",)
    assert settings.timeouts.image == 5400
    assert settings.timeouts.grace == 5
    assert settings.timeouts.setup == 300
    assert (settings.min_window_s, settings.same_failure, settings.log_cap) == (45, 2, 1024**3)
    assert settings.secrets == ("HF_TOKEN",)
    assert settings.lanes[0].gpus == ("0",)
    assert [(job.arm, job.agent, job.repeat) for job in made.jobs] == [
        ("baseline", "", 0),
        ("human", "", 0),
        ("agent", "trae_gpt5_0123", 0),
        ("baseline", "", 1),
        ("human", "", 1),
        ("agent", "trae_gpt5_0123", 1),
    ]
    agent = made.jobs[2]
    assert agent.image == made.jobs[0].image == f"shikhar481/vllm_fixed_human_images:baseline-{PARENT[:12]}"
    assert made.jobs[1].image == f"ayushnangia16/nvidia-vllm-docker:{COMMIT}"
    assert agent.patch_sha256 in made.patches
    assert agent.max_attempts == 4
    assert agent.wheels == str(tmp_path / "wheels")
    workload = agent.workload
    assert workload.seeds == (7, 8, 9)
    assert workload.env == {"VLLM_USE_V1": "0", "VLLM_LOGGING_LEVEL": "INFO"}
    assert workload.setup == ("pip install --no-index --find-links /wheels 'transformers==4.44.2'",)
    assert workload.override
    assert workload.override.decided is True
    assert workload.override.before_vllm == "0.5.3.post1"
    assert workload.server[-3:] == ("--disable-log-requests", "--max-model-len", "512")
    assert Submission.model_validate_json(made.model_dump_json()) == made


def test_a_small_file_has_the_defaults(tmp_path: Path) -> None:
    made = loaded(tmp_path, HEAD + IMAGES + task())
    assert made.settings.engine == "docker"
    assert len(made.settings.lanes) == 1
    assert made.settings.lanes[0].gpus == ()
    assert [job.arm for job in made.jobs] == ["baseline", "human"]
    assert not made.settings.simulated
    assert made.spec_path == str(tmp_path / "campaign.toml")
    assert "no agent job" in " ".join(finding.text for finding in made.findings)


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("", "campaign", "is missing"),
        ("[campaign]\n" + task(), "campaign.name", "is missing"),
        ('[campaign]\nname = "a b"\n' + IMAGES + task(), "campaign.name", "not a campaign name"),
        (f'[campaign]\nname = "{"n" * 65}"\n' + IMAGES + task(), "campaign.name", "not a campaign name"),
        (HEAD + "repeats = true\n" + IMAGES + task(), "campaign.repeats", "valid integer, not true"),
        (HEAD + "repeats = 0\n" + IMAGES + task(), "campaign.repeats", "greater than or equal to 1"),
        (HEAD + 'arms = ["humn"]\n' + IMAGES + task(), "campaign.arms[0]", "'agent', not \"humn\""),
        (HEAD + 'arms = ["human", "human"]\n' + IMAGES + task(), "campaign.arms", "at most once"),
        (HEAD + "arms = []\n" + IMAGES + task(), "campaign.arms", "at least one"),
        (HEAD + IMAGES + "kep = 'all'\n" + task(), "images.kep", "unknown key (did you mean keep?)"),
        (HEAD + IMAGES + "[isobench]\nroot = '.'\n" + task(), "isobench.root", "no mapping in its data/mappings"),
        (HEAD + IMAGES + "[isobench]\nroot = 'gone'\n", "isobench.root", "no such folder"),
        (HEAD + IMAGES + "[isobench]\n", "isobench.root", "is missing"),
        (HEAD + IMAGES + "[isobench]\nroot = '.'\ncommits = ['19d98e0']\n", "isobench.commits[0]", "not a commit id"),
        (HEAD + IMAGES + "[isobench]\nroot = '.'\nagents = ['a/b']\n", "isobench.agents.a/b", "not an agent's name"),
        (HEAD + IMAGES + "[isobench]\nroot = '.'\nagents = [1]\n", "isobench.agents", "valid dictionary"),
        (HEAD + IMAGES + "[isobench]\nroot = '.'\nmapping = 'm.json'\n", "isobench.mapping", "no such file"),
        (HEAD + IMAGES + f"[[tasks]]\ncommit = '{COMMIT}'", "tasks[0].perf_command", "is missing"),
        (HEAD + IMAGES + "[logs]\nkeep = 'raw'\n" + task(), "logs.keep", "unknown key"),
        (HEAD + IMAGES + "[container]\nshm_size = '16q'\n" + task(), "container.shm_size", "not a size"),
        (HEAD + IMAGES + "[container]\nvolumes = ['/data']\n" + task(), "container.volumes[0]", "is no volume"),
        (HEAD + IMAGES + "[container]\nvolumes = ['/d:/isobench/x']\n" + task(), "container.volumes[0]", "taken"),
        (HEAD + IMAGES + "[timeouts]\nimage = 'soon'\n" + task(), "timeouts.image", "not a duration"),
        (HEAD + IMAGES + "[timeouts]\nimage = 0\n" + task(), "timeouts.image", "would end everything"),
        (HEAD + IMAGES + "[timeouts]\nimage = inf\n" + task(), "timeouts.image", "not a duration"),
        (HEAD + IMAGES + "[engine]\nhost = 'ssh://x'\n" + task(), "engine.host", "this machine"),
        (HEAD + IMAGES + "[[lanes]]\ngpus = [0]\n" + task(), "lanes[0].gpus[0]", "valid string, not 0"),
        (HEAD + IMAGES + "[[lanes]]\ngpus = ['all']\n" + task(), "lanes[0].gpus[0]", "not a GPU id"),
        (
            HEAD + IMAGES + "[[lanes]]\ngpus = ['0']\n[[lanes]]\ngpus = ['1', '0']\n" + task(),
            "lanes[1].gpus",
            "GPU 0 is already in lanes[0]",
        ),
        (HEAD + IMAGES + "[[lanes]]\n[[lanes]]\n" + task(), "lanes[0].gpus", "without GPUs and CPUs of its own"),
        (HEAD + IMAGES + "[env]\nHF_TOKEN = 'x'\n" + task(), "env.HF_TOKEN", "looks like a secret"),
        (HEAD + IMAGES + "[env]\n'A B' = 'x'\n" + task(), "env.A B", "not the name of an environment variable"),
        (HEAD + IMAGES + "[server]\nargs = ['--port', '1']\n" + task(), "server.args", "--port is ours to set"),
        (HEAD + IMAGES + "[server]\nargs = ['--api-key=x']\n" + task(), "server.args", "stored and shown"),
        (HEAD + IMAGES + "[server]\nargs = ['x']\n" + task(), "server.args", "stands where an option should"),
        (HEAD + IMAGES, "tasks", "is missing"),
        ("tasks = []\n" + HEAD + IMAGES, "tasks", "at least 1 item"),
        (HEAD + IMAGES + task(commit="19d98e0c"), "tasks[0].commit", "not a full commit id"),
        (HEAD + IMAGES + task(parent="z" * 40), "tasks[0].parent", "not a full commit id"),
        (HEAD + IMAGES + task(parent=COMMIT.upper()), "tasks[0].parent", "is the commit itself"),
        (HEAD + IMAGES + task() + task(parent=OTHER), "tasks[1].commit", "the same commit as tasks[0]"),
        (HEAD + IMAGES + task("  "), "tasks[0].perf_command", "is empty"),
        (HEAD + IMAGES + task(SERVE + " | tee x"), "tasks[0].perf_command", "the shell operator | (a pipe)"),
        (HEAD + IMAGES + task(more="patches.human = 'x'"), "tasks[0].patches.human", "that is an arm"),
        (HEAD + IMAGES + task(more="patches.'a/b' = 'x'"), "tasks[0].patches.a/b", "not an agent's name"),
        (HEAD + IMAGES + task(more="mode = 'standalone'"), "tasks[0].mode", "not \"standalone\""),
        (HEAD + IMAGES + task(more="mode = 'latency'"), "tasks[0].perf_command", "starts a serving benchmark"),
        (HEAD + IMAGES + task(more="override = true"), "tasks[0].perf_command", "no [[model_overrides]]"),
        (HEAD + IMAGES + task(more="dataset = 'gone.json'"), "tasks[0].dataset", "no such file"),
        (HEAD + task(), "images.baseline", "is missing"),
        (HEAD + IMAGES.replace("{parent:.12}", "{repo}") + task(), "images.baseline", "{repo} is no field"),
        (HEAD + IMAGES.replace("{parent:.12}", "{parent!r}") + task(), "images.baseline", "is no field"),
        (HEAD + IMAGES.replace("{parent:.12}", "{parent:>99999999}") + task(), "images.baseline", "is no field"),
        (HEAD + IMAGES.replace("{parent:.12}", "{parent") + task(), "images.baseline", "not a template"),
        (HEAD + IMAGES.replace("reg.example/vllm", "Bad Name") + task(), "images.baseline", "no image reference"),
        (HEAD + IMAGES + "[[model_overrides]]\nmodel='a'\nuse='b'\nbefore_vllm='new'\n" + task(),
         "model_overrides[0].before_vllm", "is no version"),
        (HEAD + IMAGES + "[[model_overrides]]\nmodel='a'\nuse='b'\n" * 2 + task(),
         "model_overrides[1].model", "a second time"),
        (HEAD + IMAGES + "[model]\nsecrets = ['A']\n[env]\nA = '1'\n" + task(), "model.secrets", "also in env"),
        (HEAD + IMAGES + "[[setup]]\nrun = 'x'\nwheels = 'gone'\n" + task(), "setup[0].wheels", "no such folder"),
        (HEAD + 'arms = ["agent"]\n' + IMAGES + task(), "campaign.arms", "no job comes out of it"),
        (HEAD + IMAGES + task(more='env.A = "a\\u0000b"'), "tasks[0].env.A", "NUL"),
        (HEAD + IMAGES + task("vllm bench serve --model {isobench:model}"), "tasks[0].perf_command", "is ours"),
        (HEAD + "repeats = 1000\n" + IMAGES + "".join(task(commit=f"{i:040x}") for i in range(60)), "tasks", "jobs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, key: str, what: str) -> None:
    problems = refused(tmp_path, text)
    assert any(k == key and what in w for k, w in problems), problems


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = HEAD + IMAGES + task("true", more="patches.x = 'gone.diff'") + task("vllm bench sweep", commit=OTHER)
    keys = [key for key, _ in refused(tmp_path, text)]
    assert keys == ["tasks[0].patches.x", "tasks[0].perf_command", "tasks[1].perf_command"]


def test_a_missing_patch_is_named_by_its_path(tmp_path: Path) -> None:
    [(_, what)] = refused(tmp_path, HEAD + IMAGES + task(more="patches.x = 'p/gone.diff'"))
    assert what == f"{tmp_path}/p/gone.diff: no such file or directory"


def test_secrets_are_never_repeated(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + IMAGES + "[env]\nHF_TOKEN = 'hf_geheim'\n" + task("HF_TOKEN=hf_geheim " + SERVE))
    with pytest.raises(SpecError) as caught:
        load(path)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[campaign\n", "line 1, column 10"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"x = " + b"9" * 5000, "digits"),
        (b'x = "\xff"', "not UTF-8 (byte 0xff in line 1)"),
        (b"\x00", "not TOML"),
        (b"#" * (4 * 1024**2 + 1), "larger than 4 MiB"),
    ],
)
def test_what_is_no_toml_is_said_with_its_line(tmp_path: Path, data: bytes, what: str) -> None:
    [(key, said)] = refused(tmp_path, data)
    assert key == ""
    assert what in said


def test_deep_tables_are_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refused(tmp_path, ".".join("a" * 500) + " = 1")[0][1]


def test_files_that_are_none(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, what in [
        (tmp_path, "not a regular file"),
        (fifo, "not a regular file"),
        (tmp_path / "gone.toml", "no such file or directory"),
        (tmp_path / ("n" * 300), "file name too long"),
        (Path("/dev/null"), "not a regular file"),
        (Path("nul\0.toml"), "null byte"),
    ]:
        with pytest.raises(SpecError) as caught:
            load(path)
        assert what in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match="not UTF-8"):
        load(os.fsdecode(b"caf\xe9.toml"))


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        (1, 1),
        ("512", 512),
        ("16g", 16 * 1024**3),
        ("2GiB", 2 * 1024**3),
        ("1.5 kB", 1536),
        ("3b", 3),
        ("1T", 1024**4),
    ],
)
def test_sizes(value: object, bytes_: int) -> None:
    assert size(value) == bytes_


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1.5, 1.5), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800)],
)
def test_durations(value: object, expected: float) -> None:
    assert seconds(value) == expected


def test_setup_runs_in_every_arm_of_a_matching_task(tmp_path: Path) -> None:
    setup = f'[[setup]]\nimages = "*:{OTHER}"\nrun = "true"\n[[setup]]\nimages = "nothing*"\nrun = "false"\n'
    made = loaded(tmp_path, HEAD + IMAGES + setup + task() + task(commit=OTHER))
    assert {(job.commit, job.arm): job.workload.setup for job in made.jobs} == {
        (COMMIT, "baseline"): (),
        (COMMIT, "human"): (),
        (OTHER, "baseline"): ("true",),
        (OTHER, "human"): ("true",),
    }
    assert [f.where for f in made.findings if "no task has an image" in f.text] == ["setup[1]"]


def test_images_of_a_task_replace_the_common_ones(tmp_path: Path) -> None:
    made = loaded(tmp_path, HEAD + IMAGES + task(more='images.human = "own:{commit:.8}"'))
    assert [job.image for job in made.jobs] == ["reg.example/vllm:base-bbbbbbbbbbbb", "own:aaaaaaaa"]


def test_process_images_are_folders_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "trees" / COMMIT[:8]).mkdir(parents=True)
    images = "[engine]\nkind = 'process'\n[images]\nbaseline = 'trees/{commit:.8}'\nhuman = 'trees/{parent}'\n"
    [(key, what)] = refused(tmp_path, HEAD + images + task())
    assert (key, what) == ("images.human", f"{tmp_path}/trees/{PARENT}: no such folder")
    made = loaded(tmp_path, HEAD + 'arms = ["baseline"]\n' + images + task())
    assert made.jobs[0].image == f"{tmp_path}/trees/aaaaaaaa"


def test_the_datasets_digest_is_seen_through_the_volumes(tmp_path: Path) -> None:
    write(tmp_path, "[]", "sets/s.json")
    command = SERVE.replace("random", "sharegpt") + " --dataset-path /data/s.json"
    volumes = "[container]\nvolumes = ['sets:/data:ro']\n"
    made = loaded(tmp_path, HEAD + IMAGES + volumes + task(command))
    digest = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert made.tasks[0].workload.dataset == digest
    assert made.settings.container.volumes == (f"{tmp_path}/sets:/data:ro",)
    named = loaded(tmp_path, HEAD + IMAGES + task(command, more="dataset = 'sets/s.json'"))
    assert named.tasks[0].workload.dataset == digest
    unknown = loaded(tmp_path, HEAD + IMAGES + task(command))
    assert unknown.tasks[0].workload.dataset is None
    assert any("cannot be read here" in finding.text for finding in unknown.findings)


def test_more_gpus_than_any_lane_has_is_a_warning(tmp_path: Path) -> None:
    made = loaded(tmp_path, HEAD + IMAGES + "[[lanes]]\ngpus = ['0']\n" + task(SERVE + " -tp 4"))
    assert any("asks for 4 GPUs; the largest lane has 1" in finding.text for finding in made.findings)


def test_arms_that_do_not_run(tmp_path: Path) -> None:
    write(tmp_path, DIFF, "p.diff")
    made = loaded(tmp_path, HEAD + 'arms = ["human"]\n' + IMAGES + task(more="patches.x = 'p.diff'"))
    assert [job.arm for job in made.jobs] == ["human"]
    assert any("will not run" in finding.text for finding in made.findings)
    made = loaded(tmp_path, HEAD + 'arms = ["agent"]\n' + IMAGES + task(more="patches.x = 'p.diff'"))
    assert [job.agent for job in made.jobs] == ["x"]
    assert any("without baseline" in finding.text for finding in made.findings)


_BASE = tomllib.loads(HEAD + IMAGES + task())
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "{", "~x/y"])
)
_VALUES = st.recursive(
    _LEAVES.filter(lambda v: v is not None),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    sorted({*CampaignFile.model_fields, *TaskTable.model_fields, "name", "kind", "volumes", "args"})
)


def _toml(value: Any) -> str:
    """Any plain value as inline TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() else c for c in value) + '"'
    return repr(value)


@given(changes=st.lists(st.tuples(st.lists(_KEYS, min_size=1, max_size=3), _VALUES), min_size=1, max_size=4))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_wild_files_are_refused_in_lines(changes: list[tuple[list[str], Any]]) -> None:
    document: dict[str, Any] = {**_BASE, "tasks": [dict(_BASE["tasks"][0])]}
    for path, value in changes:
        place: Any = document
        for key in path[:-1]:
            place = place[0] if isinstance(place, list) and place else place
            place = place.setdefault(key, {}) if isinstance(place, dict) else place
        place = place[0] if isinstance(place, list) and place else place
        if isinstance(place, dict):
            place[path[-1]] = value
    _parses_or_refuses("\n".join(f"{key} = {_toml(value)}" for key, value in document.items()))


@given(st.text())
@hypothesis_settings(max_examples=100, deadline=None)
def test_wild_texts_are_refused_in_lines(text: str) -> None:
    _parses_or_refuses(text)


def _parses_or_refuses(text: str) -> None:
    try:
        parse(text, Path("/nowhere/campaign.toml"))
    except SpecError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))


@given(st.binary(max_size=200))
@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wild_bytes_are_refused_in_lines(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SpecError):
        load(write(tmp_path, data))
