"""Fingerprints and identities: what they depend on, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_files import COMMIT, DIFF, HEAD, IMAGES, OTHER, SERVE, loaded, task, write

from isobench_tui.campaign.identity import canonical, fingerprint, identity, job_id
from isobench_tui.campaign.models import JobSpec, Override, Submission, Workload

WORKLOAD = Workload(mode="serving", model="m", client=("vllm", "bench", "serve", "--model", "{isobench:model}"))


def ids(made: Submission) -> list[str]:
    return [identity(job, made.settings) for job in made.jobs]


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"\\u00fc"]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


def test_identities_are_stable_and_distinct(tmp_path: Path) -> None:
    text = HEAD + "repeats = 2\n" + IMAGES + task() + task(commit=OTHER)
    first, again = loaded(tmp_path / "a", text), loaded(tmp_path / "b", text)
    assert ids(first) == ids(again)
    assert len(set(ids(first))) == len(first.jobs) == 8
    assert all(len(digest) == 64 for digest in ids(first))
    assert job_id(ids(first)[0]) == "j" + ids(first)[0][:10]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "one"', 'name = "two"'),
        (COMMIT, OTHER),
        ("--num-prompts 10", "--num-prompts 11"),
        ("vllm:base-", "vllm:other-"),
        ("[server]", "[env]\nA = '1'\n[server]"),
        ("[server]", "[server]\nargs = ['--max-model-len', '9']"),
        ("[server]", "[[setup]]\nrun = 'true'\n[server]"),
        ("[server]", "[limits]\nmax_attempts = 5\n[server]"),
        ("[server]", "[measure]\ntrials = 2\n[server]"),
        ("[server]", "[container]\nmemory = '1g'\n[server]"),
        ("b = 3", "b = 4"),
    ],
)
def test_what_makes_another_job(tmp_path: Path, old: str, new: str) -> None:
    text = HEAD + IMAGES + "[server]\n" + task(more="patches.x = 'p.diff'")
    write(tmp_path, DIFF, "p.diff")
    before = loaded(tmp_path, text)
    write(tmp_path, DIFF.replace(old, new), "p.diff")
    after = loaded(tmp_path, text.replace(old, new))
    agents = [(made.jobs[-1], made.settings) for made in (before, after)]
    assert agents[0][0].arm == agents[1][0].arm == "agent"
    assert identity(*agents[0]) != identity(*agents[1])


def test_what_leaves_a_job_as_it_is(tmp_path: Path) -> None:
    before = loaded(tmp_path, HEAD + IMAGES + task())
    more = "[timeouts]\nmeasure = '2h'\n[logs]\ncap = '1g'\n[limits]\nsame_failure = 9\n[[lanes]]\ngpus = ['1']\n"
    after = loaded(tmp_path, "# a comment\n" + HEAD + "repeats = 2\n" + IMAGES + more + task())
    assert ids(after)[:2] == ids(before)


def test_the_reason_of_an_override_is_no_part_of_it(tmp_path: Path) -> None:
    rows = "[[model_overrides]]\nmodel = 'facebook/opt-125m'\nuse = 'x'\nreason = 'one'\n"
    first = loaded(tmp_path, HEAD + IMAGES + rows + task())
    second = loaded(tmp_path, HEAD + IMAGES + rows.replace("one", "two") + task())
    assert ids(first) == ids(second)
    assert first.tasks[0].fingerprint == second.tasks[0].fingerprint


def test_fingerprints_are_shared_by_the_arms(tmp_path: Path) -> None:
    made = loaded(tmp_path, HEAD + IMAGES + task())
    assert {job.fingerprint for job in made.jobs} == {made.tasks[0].fingerprint}
    assert made.tasks[0].fingerprint == fingerprint(made.tasks[0].workload)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "latency"},
        {"model": "n"},
        {"client": ("vllm", "bench", "serve", "--model", "{isobench:model}", "--num-prompts", "1")},
        {"server": ("python",)},
        {"override": Override(model="m", use="n")},
        {"env": {"A": "b"}},
        {"setup": ("true",)},
        {"dataset": "sha256:0"},
        {"seeds": (1,)},
    ],
)
def test_what_may_not_be_compared(change: dict[str, object]) -> None:
    assert fingerprint(WORKLOAD.model_copy(update=change)) != fingerprint(WORKLOAD)


def test_what_was_only_derived_may_be_compared() -> None:
    changed = WORKLOAD.model_copy(update={"asked": 5, "output_tokens": 6, "model_ids": ("x",)})
    assert fingerprint(changed) == fingerprint(WORKLOAD)


def test_paths_are_no_part_of_a_fingerprint() -> None:
    def made(*client: str) -> str:
        return fingerprint(Workload(mode="serving", model="m", client=client, dataset="sha256:0"))

    here = made("python", "benchmarks/benchmark_serving.py", "--dataset-path", "/data/s.json", "--seed", "0")
    assert here == made(
        "python", "/opt/vllm/benchmarks/benchmark_serving.py", "--dataset-path", "/s.json", "--seed", "0"
    )
    assert made("python", "a.py", "--dataset=/a") == made("python", "a.py", "--dataset=/b")
    assert here != made("python", "benchmarks/benchmark_serving.py", "--dataset-path", "/data/s.json", "--seed", "1")


def test_a_job_survives_the_store(tmp_path: Path) -> None:
    made = loaded(tmp_path, HEAD + IMAGES + task(SERVE + " --request-rate 2.5"))
    job = made.jobs[0]
    again = JobSpec.model_validate_json(job.model_dump_json())
    assert identity(again, made.settings) == identity(job, made.settings)
