"""The plan: everything that would run, before it runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from campaign_files import COMMIT, DIFF, HEAD, IMAGES, OTHER, PARENT, SERVE, loaded, task, write

from isobench_tui.campaign.identity import identity, job_id
from isobench_tui.campaign.models import Submission
from isobench_tui.campaign.plan import plan_json, render_plan

OVERRIDE = "[[model_overrides]]\nmodel = 'facebook/opt-125m'\nuse = 'facebook/opt-350m'\nreason = 'rope'\n"


@pytest.fixture
def made(tmp_path: Path) -> Submission:
    write(tmp_path, DIFF, "good.diff")
    write(tmp_path, "", "empty.diff")
    text = (
        HEAD + "repeats = 2\n" + IMAGES + "[env]\nVLLM_USE_V1 = '0'\n[[setup]]\nrun = 'pip check'\n"
        "[[lanes]]\ngpus = ['0']\n" + OVERRIDE + "before_vllm = '0.5.3.post1'\n"
        + task(SERVE + " --dtype half --random-output-len 3 --ignore-eos",
               more="patches.good = 'good.diff'\npatches.lazy = 'empty.diff'")
        + task("vllm bench latency --model m", commit=OTHER, more="repeats = 1")
    )  # fmt: skip
    return loaded(tmp_path, text)


def test_the_order_is_the_jobs_order(made: Submission) -> None:
    lines = render_plan(made).split("\n")
    start = lines.index("order")
    rows = [line.split() for line in lines[start + 2 : lines.index("", start)]]
    assert [row[:5] + row[6:] for row in rows] == [
        [
            str(position),
            job.commit[:8],
            job.agent or job.arm,
            str(job.repeat + 1),
            job.workload.mode,
            (job.patch_sha256 or "-")[:12],
        ]
        for position, job in enumerate(made.jobs, 1)
    ]
    assert [row[2] for row in rows] == ["baseline", "human", "good", "lazy"] * 2 + ["baseline", "human"]


def test_images_argv_overrides_and_findings_are_there(made: Submission) -> None:
    text = render_plan(made)
    for ref in {job.image for job in made.jobs}:
        assert text.count(ref) == 1
    assert "only if the image's vLLM is older than 0.5.3.post1" in text
    assert "facebook/opt-350m" in text
    assert "because: rope" in text
    assert "10 requests, 30 output tokens, seeds 0, a result file" in text
    assert "VLLM_USE_V1=0" in text
    assert "pip check" in text
    assert "lazy: the patch is empty" in text
    assert "goes to the server: --dtype" in text
    assert "SIMULATED" not in text


def test_the_argv_can_be_copied_out(made: Submission) -> None:
    lines = render_plan(made).split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("  client"))
    end = next(i for i, line in enumerate(lines) if line.startswith("  server"))
    command = "\n".join(lines[start:end]).replace("client", "", 1).replace("\\\n", " ")
    assert tuple(shlex.split(command)) == made.tasks[0].workload.client


def test_it_fits_80_columns_but_for_what_cannot_be_broken(made: Submission) -> None:
    for line in render_plan(made).split("\n"):
        assert len(line) <= 80 or len(line.split()) <= 3, line


def test_unconditional_overrides_are_called_so(tmp_path: Path) -> None:
    assert "            always\n" in render_plan(loaded(tmp_path, HEAD + IMAGES + OVERRIDE + task()))
    settled = OVERRIDE + "before_vllm = '1'\n" + task(more="override = true")
    assert "override = true" in render_plan(loaded(tmp_path, HEAD + IMAGES + settled))


def test_what_is_simulated_says_so_first(tmp_path: Path) -> None:
    text = render_plan(loaded(tmp_path, HEAD + "simulated = true\n" + IMAGES + task()))
    assert "SIMULATED" in text.split("\n")[1]


def test_no_terminal_obeys_a_plan(tmp_path: Path) -> None:
    text = HEAD + IMAGES + '[env]\nA = "\\u001b[2J\\u202e"\n' + task(more='patches.x = "\\u001b]0;t\\u0007.diff"')
    write(tmp_path, DIFF, "\x1b]0;t\x07.diff")
    assert all(line.isprintable() for line in render_plan(loaded(tmp_path, text)).split("\n"))


def test_as_json(made: Submission) -> None:
    plan = json.loads(json.dumps(plan_json(made)))
    assert plan["campaign"] == "one"
    assert [job["id"] for job in plan["jobs"]] == [job_id(identity(job, made.settings)) for job in made.jobs]
    assert plan["jobs"][2]["agent"] == "good"
    assert plan["jobs"][2]["mode"] == "serving"
    assert plan["tasks"][0]["workload"]["client"] == list(made.tasks[0].workload.client)
    assert plan["tasks"][0]["workload"]["override"]["before_vllm"] == "0.5.3.post1"
    assert (plan["tasks"][0]["commit"], plan["tasks"][0]["parent"]) == (COMMIT, PARENT)
    assert plan["settings"]["lanes"] == [{"gpus": ["0"], "cpus": None}]
    assert any(finding["where"] == "aaaaaaaa:lazy" for finding in plan["findings"])
