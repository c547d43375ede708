"""ISO-Bench checkouts: what becomes of every kind of dirt, the campaign file that is written, the published commands.

Snapshots lie in tests/snapshots. After a wanted change renew them, and read the difference:
    ISOBENCH_RENEW=1 python -m pytest tests/test_isobench.py -k snapshot
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, bench_at
from benchtree import PATCH, THROUGHPUT
from campaign_files import DIFF, HEAD, IMAGES, loaded, refused, write
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from isobench_checkout import (
    CLI,
    GPT5,
    LIST,
    NAMED,
    NESTED,
    NEW,
    OLD,
    SONNET,
    checkout,
    dirty,
    full,
    item,
    parent,
    serve,
    short,
)

from isobench_tui.campaign.isobench_write import REPORT_OVERRIDES, campaign
from isobench_tui.campaign.load import SpecError, load
from isobench_tui.campaign.models import MODEL, PORT, RESULT, RUN, SEED, Submission
from isobench_tui.campaign.plan import render_plan
from isobench_tui.campaign.spec import IsobenchTable

SNAPSHOTS = Path(__file__).parent / "snapshots"
MAPPING = Path(__file__).parents[1].parent / "shared/data/iso-bench/benchmark_mode_mapping.subset.json"
OVERRIDES = "".join(
    f"[[model_overrides]]\nmodel = '{model}'\nuse = '{use}'\nreason = \"{reason}\"\n"
    for model, use, reason in REPORT_OVERRIDES
)
REST = '[container]\nshm_size = "16g"\n[[lanes]]\ngpus = ["0"]\n' + OVERRIDES


def text(section: str, rest: str = "") -> str:
    return HEAD + IMAGES + "[isobench]\nroot = 'co'\n" + section + "\n" + rest


def made(root: Path, section: str = "agents = ['trae']", rest: str = "") -> Submission:
    """The campaign of the checkout `co` beside the file."""
    return loaded(root, text(section, rest))


def said(submission: Submission, where: str) -> str:
    """All findings filed under one commit, agent or file."""
    return "\n".join(f"{f.level}: {f.text}" for f in submission.findings if f.where == where)


def patches(submission: Submission) -> dict[tuple[str, str], str]:
    """(first digits of the commit, agent) -> what the patch adds."""
    found = {}
    for job in submission.jobs:
        if job.patch_sha256:
            diff = base64.b64decode(submission.patches[job.patch_sha256]).decode()
            found[job.commit[:8], job.agent] = next((line for line in diff.split("\n") if line.startswith("+b")), "")
    return found


def snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("ISOBENCH_RENEW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), "see the top of this file for how to renew it"


# ------------------------------------------------------------------------------------ the whole dirty checkout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    dirty(root / "co")
    return root


AGENTS = "agents = ['trae_gpt5', 'codex_cli']"


def test_plan_snapshot(site: Path) -> None:
    shown = render_plan(made(site, AGENTS, REST))
    snapshot("plan_isobench.txt", shown.replace(str(site), "/site"))


def written(site: Path, *agents: str, commits: list[str] | None = None) -> tuple[str, Submission]:
    table = IsobenchTable(root="co", agents=dict.fromkeys(agents, "newest"), commits=commits)
    return campaign(table, site, "one", site / "written.toml")


def test_written_file_snapshot(site: Path) -> None:
    made_, _ = written(site, "trae_gpt5", "codex_cli")
    snapshot("campaign_isobench.toml", made_.replace(str(site), "/site"))


def test_the_written_file_loads_and_plans_what_the_checkout_does(site: Path) -> None:
    text_, told = written(site, "trae_gpt5", "codex_cli")
    again = load(write(site, text_, "written.toml"))
    read = made(site, AGENTS, REST)
    assert again.jobs[0].image == f"shikhar481/vllm_fixed_human_images:baseline-{parent('good')[:12]}"
    assert again.jobs[1].image == f"ayushnangia16/nvidia-vllm-docker:{full('good')}"
    assert again.tasks == told.tasks == read.tasks
    assert again.patches == told.patches == read.patches
    assert again.jobs == told.jobs
    assert [job.model_copy(update={"image": ""}) for job in again.jobs] == [
        job.model_copy(update={"image": ""}) for job in read.jobs
    ]
    assert again.settings == read.settings


def test_every_finding_is_a_comment_of_the_written_file(site: Path) -> None:
    text_, told = written(site, "trae_gpt5", "codex_cli")
    comments = " ".join(" ".join(line[1:] for line in text_.split("\n") if line.startswith("#")).split())
    assert len(told.findings) > 50
    for finding in told.findings:
        shown = " ".join(finding.text.encode("unicode_escape").decode().replace("\\u2026", "…").split())
        assert shown in comments.replace("\\\\", "\\") or finding.text in comments, finding
    assert set(told.findings) == set(made(site, AGENTS, REST).findings)


def test_nothing_of_the_mapping_is_lost_without_a_word(site: Path) -> None:
    everything = made(site, "", REST)
    kept = {task.commit[:8] for task in everything.tasks}
    left = {f.where for f in everything.findings if f.text.startswith("left out")}
    assert kept | left == {short(name) for name in NAMED}
    assert not kept & left


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("short-lost", "has only 8 digits of its hash, and no journal or other record has it all"),
        ("two-meanings", "the mappings mean different commits by it"),
        ("parent-lost", "no mapping has its parent, and no journal has it"),
        ("nothing", "no mapping has a perf_command for it"),
        ("holes", "--batch-size BS: a placeholder was left in"),
        ("pipe", "the shell operator | (a pipe)"),
        ("ours", "no mapping has a perf_command"),
        ("surrogate", "no mapping has a perf_command"),
        ("misfiled", "has only 8 digits"),
        ("gone", "no mapping has it"),
    ],
)
def test_what_cannot_be_settled_is_left_out_with_the_reason(site: Path, name: str, what: str) -> None:
    got = made(site, f"agents = ['trae_gpt5']\ncommits = ['{short('good')}', '{short(name)}']", REST)
    assert [task.commit for task in got.tasks] == [full("good")]
    assert what in said(got, short(name))
    assert "left out" in said(got, short(name))


def test_commits_that_are_all_left_out_are_an_error_with_the_reasons(site: Path) -> None:
    [(key, what)] = refused(site, text(f"commits = ['{short('pipe')}', '{short('gone')}']"))
    assert key == "isobench"
    assert "a pipe" in what
    assert f"{short('gone')}: left out: no mapping has it" in what


# --------------------------------------------------------------------------------------- which run, which patch


def test_the_newest_run_wins(tmp_path: Path) -> None:
    """The runner that this replaces took whichever directory the file system listed first, in effect the oldest."""
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/{OLD}", "good", 1, patch=DIFF.replace("b = 3", "b = 1"))
    item(root, f"{GPT5}/{NEW}", "good", 7, patch=DIFF.replace("b = 3", "b = 2"))
    got = made(tmp_path)
    assert patches(got) == {(short("good"), "trae"): "+b = 2"}
    assert f"the newest of 2 is used: {NEW}; the others: {OLD}" in said(got, f"{short('good')}:trae")
    named = made(tmp_path, f"agents.trae = '{GPT5}/{OLD}'")
    assert patches(named) == {(short("good"), "trae"): "+b = 1"}
    assert said(named, f"{short('good')}:trae") == ""


@pytest.mark.parametrize("digits", [8, 12, 40])
def test_items_are_found_by_any_length_of_the_human_commit(tmp_path: Path, digits: int) -> None:
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/{NEW}", "good", 1, digits=digits)
    item(root, f"{GPT5}/{NEW}", "another", 2, digits=digits)
    assert patches(made(tmp_path)) == {(short("good"), "trae"): "+b = 3"}


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("prefix", ["ISO-Bench/", ""])
def test_the_root_may_be_the_checkout_or_hold_it(tmp_path: Path, inner: bool, prefix: str) -> None:
    base = tmp_path / "co" / "ISO-Bench" if inner else tmp_path / "co"
    checkout(base)
    item(base, f"{GPT5}/{NEW}", "good", 1)
    assert len(patches(made(tmp_path))) == 1
    assert len(patches(made(tmp_path, f"agents.x = '{prefix}{GPT5}/{NEW}'"))) == 1


@pytest.mark.parametrize(
    ("agent", "run"),
    [
        ("trae_gpt5", f"{GPT5}/{OLD}"),
        ("TRAE-gpt-5", f"{GPT5}/{OLD}"),
        ("codex_cli", f"{CLI}/{OLD}"),
        ("trae_sonnet45", f"state/runs/vllm/trae/claude-sonnet-45/{OLD}"),
        ("trae_gpt5_0123", f"{GPT5}/{NEW}"),
        ("trae_gpt5", f"state/runs/sglan/trae/gpt-5/{NEW}"),
    ],
)
def test_agents_are_known_by_the_names_that_people_use(tmp_path: Path, agent: str, run: str) -> None:
    root = checkout(tmp_path / "co")
    item(root, run, "good", 1)
    item(root, f"{SONNET}/{NEW}", "good", 1, patch=NESTED)
    assert patches(made(tmp_path, f"agents = ['{agent}']")) == {(short("good"), agent): "+b = 3"}


def test_a_published_name_means_its_own_run(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/{NEW}", "good", 1)
    item(root, f"{GPT5}/2026-03-01_00-00-00", "good", 1, patch=NESTED)
    assert patches(made(tmp_path, "agents = ['trae_gpt5_0123']")) == {(short("good"), "trae_gpt5_0123"): "+b = 3"}


def test_an_agent_that_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/{OLD}", "good", 1)
    item(root, f"{SONNET}/{NEW}", "good", 1)
    (root / "state/runs/vllm/trae/empty").mkdir()
    assert refused(tmp_path, text("agents = ['trae', 'aider']")) == [
        ("isobench.agents.trae", "may be any of trae/empty, trae/gpt-5, trae/us-sonnet"),
        ("isobench.agents.aider", "no run of an agent of that name"),
    ]
    with pytest.raises(SpecError, match="relative to root, in or below one of state/runs/vllm/trae/empty"):
        made(tmp_path, "agents = ['aider']")
    [(key, what)] = refused(tmp_path, text("agents.x = 'state/runs/vllm/trae/empty'"))
    assert (key, what) == ("isobench.agents.x", "state/runs/vllm/trae/empty: no run in it")
    [(key, what)] = refused(tmp_path, text("agents.x = 'gone'"))
    assert (key, what) == ("isobench.agents.x", f"{root}/gone: no such folder")


def test_two_items_of_one_commit_in_a_run(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/{NEW}", "good", 1)
    item(root, f"{GPT5}/{NEW}", "good", 2, patch=None)
    got = made(tmp_path)
    assert len(patches(got)) == 1
    assert "the newest of 2 is used" in said(got, f"{short('good')}:trae")


def test_an_undated_run_is_the_oldest(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    item(root, f"{GPT5}/latest", "good", 1, patch=NESTED)
    assert "it counts as the oldest" in said(made(tmp_path), f"{short('good')}:trae")
    item(root, f"{GPT5}/{OLD}", "good", 1)
    assert patches(made(tmp_path)) == {(short("good"), "trae"): "+b = 3"}
    dated = {"run_metadata": {"run_timestamp": NEW}}
    item(root, f"{GPT5}/other", "good", 1, patch=DIFF.replace("b = 3", "b = 9"), journal=dated)
    assert patches(made(tmp_path)) == {(short("good"), "trae"): "+b = 9"}


def test_links_of_an_item_are_not_followed(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    folder = item(root, f"{GPT5}/{NEW}", "good", 1, patch=None)
    (tmp_path / "secret").write_text(DIFF)
    (folder / "model_patch.diff").symlink_to(tmp_path / "secret")
    (folder / "prediction.jsonl").symlink_to(tmp_path / "secret")
    (root / "state/runs/vllm/linked").symlink_to(root / "state/runs/vllm/trae")
    got = made(tmp_path)
    assert not got.patches
    assert "model_patch.diff: a link, which is not followed" in said(got, f"{short('good')}:trae")
    assert "a link" in said(got, "state/runs/vllm/linked")


def test_folders_that_cannot_be_listed() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        base = Path(folder)
        root = checkout(base / "co")
        item(root, f"{GPT5}/{NEW}", "good", 1)
        (root / GPT5 / OLD).mkdir(mode=0)
        path = write(base, text("agents = ['trae']"))
        base.chmod(0o755)
        user = os.geteuid()
        if user == 0:  # root reads everything
            os.seteuid(65534)
        try:
            got = load(path)
        finally:
            os.seteuid(user)
        assert "permission denied" in said(got, f"{GPT5}/{OLD}")
        assert patches(got) == {(short("good"), "trae"): "+b = 3"}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "with 0 records"),
        (b"{}\n{}\n", "with 2 records"),
        (b'{"model_patch": 5}', "without model_patch"),
        (b"[]", "without model_patch"),
        (b"\xff", "not UTF-8"),
        (b'{"model_patch": "\\ud800"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_prediction_without_a_patch(tmp_path: Path, data: bytes, what: str) -> None:
    root = checkout(tmp_path / "co")
    folder = item(root, f"{GPT5}/{NEW}", "good", 1, patch=None)
    (folder / "prediction.jsonl").write_bytes(data)
    assert what in said(made(tmp_path), f"{short('good')}:trae")
    inline = f"[[tasks]]\ncommit = '{full('good')}'\npatches.x = '{folder}/prediction.jsonl'\n"
    [(key, told)] = refused(tmp_path, text("", inline))
    assert key == "tasks[0].patches.x"
    assert what in told


# ------------------------------------------------------------------------------------- with tasks of the file


def test_inline_tasks_override_what_the_checkout_says(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co", mapping={short(name): NAMED[name] for name in ("good", "offline")})
    item(root, f"{GPT5}/{NEW}", "good", 1)
    write(tmp_path, DIFF.replace("b = 3", "b = 8"), "mine.diff")
    inline = (
        f"[[tasks]]\ncommit = '{full('good')}'\nserver_args = ['--max-model-len', '512']\nrepeats = 2\n"
        "patches.own = 'mine.diff'\n"
    )
    got = made(tmp_path, rest=inline)
    assert [task.commit for task in got.tasks] == [full("good")]
    assert got.tasks[0].parent == parent("good")
    assert got.tasks[0].workload.server[-2:] == ("--max-model-len", "512")
    assert patches(got) == {(short("good"), "trae"): "+b = 3", (short("good"), "own"): "+b = 8"}
    assert len(got.jobs) == 8
    other = made(tmp_path, rest=inline.replace("patches.own", "patches.trae"))
    assert patches(other) == {(short("good"), "trae"): "+b = 8"}
    both = made(tmp_path, "", inline + f"[[tasks]]\ncommit = '{full('x')}'\nparent = '{parent('x')}'\n"
                              f"perf_command = '{serve()}'")  # fmt: skip
    assert [task.commit for task in both.tasks] == [full("good"), full("offline"), full("x")]


def test_inline_tasks_settle_what_the_checkout_cannot(tmp_path: Path) -> None:
    names = ("short-lost", "parent-lost", "pipe")
    checkout(tmp_path / "co", mapping={short(name): NAMED[name] for name in names})
    inline = (
        f"[[tasks]]\ncommit = '{full('short-lost')}'\n"
        f"[[tasks]]\ncommit = '{full('parent-lost')}'\nparent = '{parent('parent-lost')}'\n"
        f"[[tasks]]\ncommit = '{full('pipe')}'\nperf_command = '{serve()}'\n"
    )
    got = made(tmp_path, "", inline)
    assert [(task.commit, task.parent) for task in got.tasks] == [(full(name), parent(name)) for name in names]
    missing = f"[[tasks]]\ncommit = '{full('pipe')}'\n[[tasks]]\ncommit = '{full('x')}'\nparent = '{parent('x')}'"
    problems = refused(tmp_path, text("", missing))
    assert [key for key, _ in problems] == ["tasks[0].perf_command", "tasks[1].perf_command"]
    assert "a pipe" in problems[0][1]
    assert "does not know the commit" in problems[1][1]


def test_a_commit_in_40_digits_completes_a_short_record(tmp_path: Path) -> None:
    checkout(tmp_path / "co", mapping={short("short-lost"): NAMED["short-lost"], short("good"): NAMED["good"]})
    got = made(tmp_path, f"commits = ['{full('short-lost')}', '{short('good')}{'0' * 32}', '{full('good')}']")
    assert [task.commit for task in got.tasks] == [full("short-lost"), full("good")]
    assert f"no mapping has {short('good')}000" in said(got, short("good"))


def test_the_mapping_may_be_named(tmp_path: Path) -> None:
    root = checkout(tmp_path / "co")
    (root / "lists").mkdir()
    (root / "lists" / "mine.json").write_text(json.dumps(LIST[:1]))
    got = made(tmp_path, "mapping = 'lists/mine.json'")
    assert [(task.commit, task.parent) for task in got.tasks] == [(full("good"), parent("good"))]
    assert "names no mode" in said(got, short("good"))
    (root / "lists" / "mine.json").write_text("{")
    assert "not JSON" in refused(tmp_path, text("mapping = 'lists/mine.json'"))[0][1]


# ------------------------------------------------------------------------------------------- the command line


def test_plan_writes_a_file_that_runs(tmp_path: Path) -> None:
    with bench_at(tmp_path) as bench:
        root = checkout(tmp_path / "co", mapping={short("run"): RUNS})
        item(root, f"{GPT5}/{NEW}", "run", 1, patch=PATCH)
        done = bench.cli("plan", "--isobench", "co", "--agent", "trae", "-o", "c.toml", cwd=tmp_path)
        assert "campaign c: 3 jobs, 1 task" in done.stdout
        assert done.stderr == "isobench: wrote c.toml\n"
        bench.refused("plan", "--isobench", "co", "-o", "c.toml", cwd=tmp_path)
        assert bench.cli("plan", "c.toml", cwd=tmp_path).stdout == done.stdout
        _edit(tmp_path / "c.toml", bench)
        bench.cli("run", "c.toml", cwd=tmp_path)
        bench.wait_idle()
        jobs = bench.rows("SELECT arm, outcome, valid FROM jobs ORDER BY arm")
        assert [tuple(job.values()) for job in jobs] == [
            (arm, "success", 1) for arm in ("agent", "baseline", "human")
        ]


RUNS = {
    "commit_full": full("run"),
    "parent_commit": parent("run"),
    "benchmark_mode": "standalone",
    "model": "m",
    "perf_command": THROUGHPUT,
}


def _edit(path: Path, bench: Bench) -> None:
    """What a user without containers changes: the engine, and folders for images."""
    lines = []
    for line in path.read_text().split("\n"):
        key = line.split(" ")[0]
        lines.append({"baseline": 'baseline = "tree"', "human": 'human = "tree"', "shm_size": "",
                      "gpus": f'gpus = ["{bench.lane}"]', "[container]": ""}.get(key, line))  # fmt: skip
    path.write_text("\n".join(lines) + '\n[engine]\nkind = "process"\n[limits]\nmin_window = "0s"\n')


def test_plan_out_of_a_checkout_without_writing(tmp_path: Path) -> None:
    with bench_at(tmp_path) as bench:
        root = checkout(tmp_path / "co")
        item(root, f"{GPT5}/{NEW}", "good", 1)
        argv = ["plan", "--isobench", str(root), "--agent", f"x={GPT5}/{NEW}", "--commit", short("good")]
        plan = json.loads(bench.cli(*argv, "--json").stdout)
        assert [job["agent"] for job in plan["jobs"]] == ["", "", "x"]
        assert "not written" in bench.cli(*argv).stdout
        before = sorted(path.name for path in tmp_path.iterdir())
        for wrong, line in [
            ([], "a campaign file is missing, or --isobench ROOT"),
            (["c.toml", "--agent", "x"], "--agent goes with --isobench"),
            (["c.toml", "--isobench", str(root)], "not both"),
            (["--isobench", str(tmp_path / "gone")], "isobench.root: "),
            (["--isobench", str(root), "--agent", "aider"], "no run of an agent of that name"),
            (["--isobench", str(root), "--agent", "human"], "that is an arm"),
            (["--isobench", str(root), "--agent", "x", "--agent", f"x={GPT5}"], "--agent x is given twice"),
            (["--isobench", str(root), "--commit", "xyz"], "commits[0]: not a commit id"),
            (["--isobench", str(root), "-o", "gone/c.toml"], "gone/c.toml"),
        ]:
            assert line in bench.refused("plan", *wrong, cwd=tmp_path), wrong
        assert sorted(path.name for path in tmp_path.iterdir()) == before


# ------------------------------------------------------------------------------------ whatever else may lie there


_KEYS = """commits human pre commit_full human_commit_full parent_commit perf_command model benchmark_mode gpu_config
run_metadata agent status model_patch""".split()  # noqa: SIM905
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([full("good"), short("good"), serve(), "MODEL", "serving", "a/b", "/x/y", "'"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*_KEYS, short("good")]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(mapping=_JSON, journal=_JSON, summary=_JSON, prediction=_JSON)
@hypothesis_settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_wild_json_is_a_finding_or_an_error_in_lines(
    tmp_path: Path, mapping: Any, journal: Any, summary: Any, prediction: Any
) -> None:
    root = tmp_path / "co"
    folder = root / GPT5 / NEW / "vllm_core-0001"
    folder.mkdir(parents=True, exist_ok=True)
    checkout(root, mapping={short("good"): mapping} if isinstance(mapping, dict) else mapping)
    (root / "data/mappings/other.json").write_text(json.dumps([mapping]))
    for name, value in [("journal.json", journal), ("run_summary.json", summary), ("prediction.jsonl", prediction)]:
        (folder / name).write_text(json.dumps(value))
    try:
        got = made(tmp_path)
        table = IsobenchTable(root="co", agents={"trae": "newest"})
        assert campaign(table, tmp_path, "one", tmp_path / "w.toml")[1].tasks == got.tasks
    except SpecError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))


# ------------------------------------------------------------------------------- what was published, as it stands

PIECES = MAPPING.parent


@pytest.mark.skipif(not MAPPING.exists(), reason="the published files are not beside this checkout")
def test_files_of_the_published_shapes(tmp_path: Path) -> None:
    mappings, run = tmp_path / "co/data/mappings", tmp_path / "co/ISO-Bench/state/runs/vllm/trae/gpt-5" / NEW
    for target, name in [
        (mappings / "benchmark_mode_mapping.json", MAPPING.name),
        (mappings / "complete_benchmark_mapping.json", "complete_benchmark_mapping.shape.json"),
        (run / "vllm_core-0006/journal.json", "journal.shape.json"),
        (run / "vllm_core-0006/run_summary.json", "run_summary.shape.json"),
        (run / "vllm_core-0006/prediction.jsonl", "prediction.shape.jsonl"),
        (run / "vllm_core-0006/model_patch.diff", "model_patch.b690e348.trae_gpt5.diff"),
    ]:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PIECES / name).read_bytes())
    got = made(tmp_path, "agents = ['trae_gpt5_0123']")
    assert [(job.commit[:8], job.arm) for job in got.jobs] == [
        ("a3223766", "baseline"),
        ("a3223766", "human"),
        ("a3223766", "agent"),
    ]
    assert said(got, "a3223766") == ""
    about = said(got, "a3223766:trae_gpt5_0123")
    assert "touches nothing but model_patch.diff: what runs is the unpatched baseline" in about
    assert "prediction.jsonl has another patch" in about
    assert 'commits.human in run_summary.json is "<8 or 40 chars>", not a commit' in about


# --------------------------------------------------------------------------------- the published perf_commands

_SERVED = f"--save-result --result-dir {RUN} --result-filename client-{{isobench:trial}}.json"
_SERVING = "python benchmarks/benchmark_serving.py --model " + MODEL
_TAIL = f"--port {PORT} --seed {SEED} {_SERVED}"
_SEEDED = f"--num-prompts 300 --seed {SEED} --port {PORT} {_SERVED}"
_LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
PUBLISHED: dict[str, tuple[str, str | None, str, str | None, str]] = {
    # commit: mode, model that runs instead, client, what the server gets beside model and address, fingerprint
    "a3223766": ("serving", None,
        f"vllm bench serve --dataset-name random --model {MODEL} --served-model-name {MODEL} --random-input-len 700 "
        "--random-output-len 1 --endpoint /v1/completions --ignore-eos --host localhost "
        f"--port {PORT} --request-rate 200 --num-prompts 100 --seed {SEED} {_SERVED} --ready-check-timeout-sec 600",
        "", "270a9d5f53e6"),
    "b690e348": ("serving", _LLAMA, f"{_SERVING} {_SEEDED}", "--dtype float16", "3007ad28c6b5"),
    "58eee5f2": ("serving", _LLAMA, f"{_SERVING} --backend vllm --num-prompts 100 {_TAIL}", "", "5d1ca06fdc36"),
    "bc7c4d20": ("serving", _LLAMA, f"{_SERVING} {_SEEDED}", "--dtype float16", "c47c402648ae"),
    "d7740ea4": ("throughput", _LLAMA,
        f"python benchmarks/benchmark_throughput.py --model {MODEL} --input-len 256 --output-len 256 --seed {SEED} "
        f"--output-json {RESULT}", None, "400b9f4ab024"),
    "9ed82e70": ("serving", _LLAMA, f"{_SERVING} --backend vllm --num-prompts 100 {_TAIL}", "", "5d1ca06fdc36"),
    "e206b543": ("serving", _LLAMA, f"{_SERVING} --backend vllm --num-prompts 100 {_TAIL}",
        "--guided-decoding-backend xgrammar", "592e0219323f"),
    "e3580537": ("serving", None, f"{_SERVING} {_TAIL}",
        "--enable-prefix-caching --enable-chunked-prefill --max-num-batched-tokens 2048", "6aac34ff4018"),
    "e7b20426": ("serving", None, f"{_SERVING} {_SEEDED}", "--dtype float16", "f212b594bece"),
    "fa63e710": ("latency", "meta-llama/Meta-Llama-3-8B",
        f"python benchmarks/benchmark_latency.py --model {MODEL} --tensor-parallel-size 1 --input_len 1000 "
        f"--batch_size 32 --output-json {RESULT}", None, "0cf9b07c72db"),
    "fc542144": ("serving", _LLAMA, f"{_SERVING} --num-prompts 1 {_TAIL}", "", "fe1dbf03e1a2"),
    "fc7b8d1e": ("serving", _LLAMA, f"{_SERVING} --backend vllm --num-prompts 100 {_TAIL}", "", "5d1ca06fdc36"),
    "fe66b347": ("serving", _LLAMA, f"{_SERVING} {_SEEDED}", "--dtype float16", "37a07ce69fc8"),
    "2deb029d": ("prefix_caching", None,
        f"python benchmarks/benchmark_prefix_caching.py --model {MODEL} --output-len 200 --enable-prefix-caching",
        None, "6a87af65ff06"),
}  # fmt: skip
NOT_RUN = {"19d98e0c": "no mapping has a perf_command", "9f1710f1": "no mapping has a perf_command",
           "3127e975": "no mapping has its parent"}  # fmt: skip
needs_mapping = pytest.mark.skipif(not MAPPING.exists(), reason="the published mapping is not beside this checkout")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Submission:
    root = tmp_path_factory.mktemp("published")
    (root / "co").mkdir()
    return made(root, f"mapping = '{MAPPING}'", OVERRIDES)


@needs_mapping
@pytest.mark.parametrize("commit", PUBLISHED)
def test_published_commands(published: Submission, commit: str) -> None:
    mode, runs, client, server, fingerprint = PUBLISHED[commit]
    [task] = [task for task in published.tasks if task.commit.startswith(commit)]
    workload = task.workload
    assert workload.mode == mode
    assert (workload.override.use if workload.override else None) == runs
    assert shlex.join(workload.client).replace("'", "") == client
    head = f"python -m vllm.entrypoints.openai.api_server --model {MODEL} --host 127.0.0.1 --port {PORT}"
    assert " ".join(workload.server) == ("" if server is None else f"{head} {server}".strip())
    assert workload.env == ({"VLLM_USE_V1": "1"} if commit == "fa63e710" else {})
    # A changed fingerprint makes old and new results incomparable: change it here only if that is meant.
    assert task.fingerprint[:12] == fingerprint


@needs_mapping
@pytest.mark.parametrize("commit", NOT_RUN)
def test_published_records_without_a_command(published: Submission, commit: str) -> None:
    assert "left out" in said(published, commit)
    assert NOT_RUN[commit] in said(published, commit)


@needs_mapping
def test_the_published_mapping_is_covered(published: Submission) -> None:
    records = json.loads(MAPPING.read_text())
    assert set(records) == set(PUBLISHED) | set(NOT_RUN)
    assert [task.commit[:8] for task in published.tasks] == [commit for commit in records if commit in PUBLISHED]
    path = "a path of another machine: the mapping's model meta-llama/Meta-Llama-3-8B takes its place"
    assert path in said(published, "fa63e710")
