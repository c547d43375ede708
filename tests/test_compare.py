"""Arms compared: rows written by the store's own functions, read through the command line and the loader."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import A, B, Bench, task

from isobench_tui.report.compare import to_text
from isobench_tui.report.table import result_rows
from isobench_tui.report.tasks import tasks
from isobench_tui.results.compare import Compared, Comparison, Contest, Ground, JobEnd, Run, Side, Task, compare
from isobench_tui.results.isoclass import iso_class
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import Diagnosis, Evidence, Flag, Metric, Verdict
from isobench_tui.results.standings import standings
from isobench_tui.store.attempts import Done, Ending

SERVE = (
    "vllm bench serve --model m --dataset-name random --random-input-len 8 --random-output-len 8 --ignore-eos "
    "--num-prompts 4"
)
PATCH = "--- a/vllm/core/scheduler.py\n+++ b/vllm/core/scheduler.py\n@@ -1 +1 @@\n-a\n+b\n"
STEADY = (100.0, 101.0, 99.5)
GROUND = Ground(False, "f" * 64, "box", "c" * 64, "m")


def values(throughput: float, ttft: float) -> tuple[Metric, ...]:
    return metric("output_throughput", throughput), metric("mean_ttft_ms", ttft), metric("mean_tpot_ms", 0.0)


def success(throughput: float, ttft: float = 50.0, client: str | None = "c" * 64, model: str = "m") -> Ending:
    flags = (Flag("short_window", "notes", "measured for 3.2 s, less than 30 s"),)
    verdict = Verdict("success", metrics=values(throughput, ttft), flags=flags)
    return Ending(verdict, Done(), counts=True, vllm_version="0.6.0", model_used=model, client_sha256=client)


def failure(blame: str) -> Ending:
    proof = Evidence("server.log", 3, "RuntimeError: boom")
    found = Diagnosis("patch_crash", blame, "It crashed.", proof)  # type: ignore[arg-type]
    return Ending(Verdict("failed", diagnosis=found), Done(), counts=True, client_sha256="c" * 64)


class Lab(Bench):
    """A workspace whose attempts end as the test says."""

    def open(self, *commits: str, repeats: int = 3, agents: Sequence[str] = ("one",), **more: str) -> None:
        (self.root / "p.diff").write_text(PATCH)
        patches = "\n".join(f'patches.{agent} = "p.diff"' for agent in agents)
        keys = f'arms = ["baseline", "human", "agent"]\nrepeats = {repeats}\n{more.pop("keys", "")}'
        path = self.write(*(task(commit, SERVE, more=patches) for commit in commits), campaign=keys, **more)
        path.write_text(path.read_text().replace('baseline = "tree"', 'baseline = "tree"\nhuman = "tree"'))
        assert self.submit(path).exit_code == 0

    def end(self, name: str, ending: Ending, host: str | None = None) -> str:
        attempt = self.begin(name)
        self.finish(attempt, ending)
        if host is not None:
            with contextlib.closing(self.store()) as connection, connection:
                connection.execute("UPDATE attempts SET host = ? WHERE id = ?", (host, attempt))
        return attempt

    def all(self, side: str, throughputs: Sequence[float], ttft: float = 50.0, **fields: Any) -> None:
        for number, value in enumerate(throughputs, 1):
            self.end(f"{side}#{number}", success(value, ttft, **fields))

    def compared(self, *argv: str) -> dict[str, Any]:
        (found,) = json.loads(self.cli("compare", "aaaa", "--json", *argv).stdout)
        return dict(found)

    def export(self) -> list[dict[str, Any]]:
        return list(json.loads(self.cli("export", "--json").stdout))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with contextlib.closing(Lab(tmp_path)) as made:
        yield made


def contest(found: dict[str, Any], name: str = "one") -> dict[str, Any]:
    return next(one for one in found["contests"] if (one["agent"] or one["arm"]) == name)


# ----------------------------------------------------------------------------------------------- through the door


def test_three_arms_side_by_side(lab: Lab) -> None:
    lab.open(A)
    lab.all("a:baseline", STEADY, 50.0)
    lab.all("a:human", [v * 1.02 for v in STEADY], 40.0)
    lab.all("a:one", [v * 1.2 for v in STEADY], 30.0)
    found = lab.compared()
    mine = contest(found)
    speed = mine["baseline"]["metrics"]["output_throughput"]
    assert speed["speedup"] == pytest.approx(1.2)
    assert speed["ci_low"] < 1.2 < speed["ci_high"]
    assert (speed["n"], speed["n_reference"], speed["verdict"], speed["more_repeats"]) == (3, 3, "win", None)
    assert (speed["noise_floor"], speed["noise_floor_assumed"]) == (pytest.approx(0.02), True)
    assert mine["baseline"]["metrics"]["mean_ttft_ms"]["speedup"] == pytest.approx(50 / 30)
    assert "mean_tpot_ms" not in mine["baseline"]["metrics"], "0 ms has no ratio"
    assert mine["human"]["metrics"]["output_throughput"]["speedup"] == pytest.approx(1.2 / 1.02)
    assert mine["iso_bench"]["class"] == "beats"
    assert (mine["iso_bench"]["metric"], mine["iso_bench"]["percent"]) == ("mean_ttft_ms", pytest.approx(25))
    human = contest(found, "human")
    assert (human["human"], human["iso_bench"]) == (None, None)
    close = human["baseline"]["metrics"]["output_throughput"]
    assert close["verdict"] == "inconclusive"
    assert close["more_repeats"] >= 1

    text = lab.cli("compare", "aaaa").stdout
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"baseline +human +one$", text, re.MULTILINE)
    assert re.search(r"speedup +1\.020 \[.*\] +1\.200 \[.*\]", text)
    assert re.search(r"inconclusive, \d+\+? more +win", text)
    assert re.search(r"over human +1\.176 \[", text)
    assert "floor      2.0 % (assumed: 3 baseline repeats, 6 would tell)" in text
    assert "ISO-Bench's class of one: beats (+25.0 % mean_ttft_ms, flip risk 0 %)" in text
    assert "short_window: one, repeat 1, 2, 3: measured for 3.2 s, less than 30 s" in text
    assert "vLLM    0.6.0" in text


def test_one_repeat_says_so_and_draws_no_interval(lab: Lab) -> None:
    lab.open(A, repeats=1)
    for side, value in (("baseline", 100.0), ("human", 110.0), ("one", 130.0)):
        lab.all(f"a:{side}", [value])
    speed = contest(lab.compared())["baseline"]["metrics"]["output_throughput"]
    assert (speed["ci_low"], speed["ci_high"], speed["verdict"], speed["more_repeats"]) == (
        None, None, "inconclusive", 2,
    )  # fmt: skip
    assert "1.300 (n=1, no CI)" in lab.cli("compare", "aaaa").stdout
    rows = lab.export()
    row = next(row for row in rows if row.get("agent") == "one")
    assert (row["speedup_vs_baseline"], row["speedup_ci_low"], row["speedup_n"]) == (pytest.approx(1.3), None, 1)
    assert row["iso_bench_flip_risk"] is None


def test_trials_of_an_attempt_are_one_value_and_every_valid_attempt_counts(lab: Lab) -> None:
    lab.open(A, repeats=1)
    lab.all("a:baseline", [100.0])
    lab.all("a:one", [120.0])
    assert lab.command("retry", "aaaa:one").exit_code == 0
    lab.end("a:one#1", success(90.0))
    speed = contest(lab.compared())["baseline"]["metrics"]["output_throughput"]
    assert (speed["n"], speed["n_reference"]) == (2, 1), "a lucky attempt is not picked"
    assert speed["speedup"] == pytest.approx((120 * 90) ** 0.5 / 100)


def test_a_client_that_the_patch_changed_counts_nowhere(lab: Lab) -> None:
    lab.open(A, repeats=1)
    lab.all("a:human", [100.0])
    lab.all("a:one", [120.0])
    lab.end("a:baseline#1", success(100.0, client="d" * 64))
    assert not lab.job("a:one#1")["valid"], "the late baseline took it back"
    found = lab.compared()
    assert contest(found)["baseline"]["not_compared"] == "no valid attempt of one (client_modified)"
    words = "client_modified: measured with different code, sha256 cccccccccccc and ddddd"
    assert words in contest(found, "human")["baseline"]["not_compared"], "the human's image has a client of its own"


@pytest.mark.parametrize(
    ("fields", "host", "words"),
    [
        ({"client": None}, None, "not known with what code"),
        ({"model": "another"}, None, "models differ: m and another"),
        ({}, "other-box", "hosts differ: "),
    ],
)
def test_other_ground_is_never_compared(lab: Lab, fields: dict[str, Any], host: str | None, words: str) -> None:
    lab.open(A, repeats=1)
    lab.end("a:baseline#1", success(100.0, **fields), host)
    lab.all("a:human", [100.0])
    lab.all("a:one", [120.0])
    found = contest(lab.compared())
    assert words in found["baseline"]["not_compared"]
    assert found["baseline"]["metrics"] == {}
    assert found["human"]["not_compared"] is None
    text = " ".join(lab.cli("compare", "aaaa").stdout.split())
    assert f"one is not compared with baseline: {found['baseline']['not_compared']}" in text
    row = next(row for row in lab.export() if row.get("agent") == "one")
    assert (row["speedup_vs_baseline"], row["verdict"]) == (None, None)
    assert words in row["not_compared"]


def test_other_workloads_and_campaigns_are_never_compared(lab: Lab) -> None:
    lab.open(A, repeats=1)
    lab.all("a:baseline", [100.0])
    lab.write(
        task(A, SERVE, more='patches.one = "p.diff"'), name="second", file="2.toml", campaign='arms = ["agent"]'
    )
    lab.write(
        task(A, f"{SERVE} --request-rate 1", more='patches.one = "p.diff"'), name="third", file="3.toml",
        campaign='arms = ["agent"]',
    )  # fmt: skip
    for number in (2, 3):
        assert lab.submit(lab.root / f"{number}.toml").exit_code == 0
    lab.end("second/a:one#1", success(120.0))
    lab.end("third/a:one#1", success(120.0))
    found = json.loads(lab.cli("compare", "aaaa", "--json").stdout)
    assert [one["campaign"] for one in found] == ["small", "second", "third"]
    assert found[0]["fingerprint"] == found[1]["fingerprint"] != found[2]["fingerprint"]
    for one in found[1:]:
        assert contest(one)["baseline"]["not_compared"] == "no valid attempt of baseline"
    (only,) = json.loads(lab.cli("compare", "aaaa", "--campaign", "second", "--json").stdout)
    assert only["campaign"] == "second"


def test_the_campaigns_own_noise_floor_and_the_measured_one(lab: Lab) -> None:
    lab.open(A, repeats=6, limits="noise_floor = 0.3")
    lab.all("a:baseline", [100.0, 101.0, 99.0])
    lab.all("a:one", [120.0, 121.0, 119.0])
    speed = contest(lab.compared())["baseline"]["metrics"]["output_throughput"]
    assert (speed["noise_floor"], speed["verdict"]) == (pytest.approx(0.3), "tie")
    for number, value in ((4, 60.0), (5, 140.0), (6, 100.0)):
        lab.end(f"a:baseline#{number}", success(value))
    speed = contest(lab.compared())["baseline"]["metrics"]["output_throughput"]
    assert speed["noise_floor"] > 0.3
    assert not speed["noise_floor_assumed"]


def test_arms_that_ran_one_after_the_other_and_outliers_are_told(lab: Lab) -> None:
    lab.open(A, repeats=5)
    lab.all("a:baseline", [100.0, 100.5, 99.5, 100.2, 140.0])
    with contextlib.closing(lab.store()) as connection, connection:
        connection.execute("UPDATE attempts SET started_at = '2026-01-24T00:00:00.000Z', ended_at = started_at")
    lab.all("a:one", [100.0, 100.5, 99.5, 100.2, 100.1])
    found = lab.compared()
    (drift,) = [note for note in found["notes"] if note.startswith("drift")]
    assert "all 5 of one ran before or after all 5 of baseline" in drift
    (outlier,) = [note for note in found["notes"] if note.startswith("outlier")]
    assert "of baseline, repeat 5" in outlier
    assert contest(found)["baseline"]["metrics"]["output_throughput"]["n_reference"] == 5, "flagged, never dropped"


def test_the_export_ends_with_the_agents(lab: Lab) -> None:
    lab.open(A, B, repeats=2, agents=("bad", "good"))
    for commit in "ab":
        lab.all(f"{commit}:baseline", [100.0, 101.0])
        lab.all(f"{commit}:human", [105.0, 106.0], 40.0)
        lab.all(f"{commit}:good", [120.0, 121.0], 39.0)
    lab.all("a:bad", [101.0, 100.0])
    for number in (1, 2):
        lab.end(f"b:bad#{number}", failure("agent"))
    rows = lab.export()
    good, bad = (row for row in rows if row["kind"] == "agent")
    assert rows[-2:] == [good, bad], "best lower bound first"
    assert (good["agent"], good["tasks"], good["successes"], good["success_rate"]) == ("good", 2, 2, 1.0)
    assert (bad["tasks"], bad["successes"], bad["agent_faults"], bad["success_rate"]) == (2, 1, 1, 0.5)
    assert bad["success_ci_low"] < 0.1
    assert good["speedup_vs_baseline"] == pytest.approx(1.199, abs=1e-3)
    assert (good["speedup_tasks"], bad["speedup_tasks"]) == (2, 1)
    assert good["iso_bench"] == {"beats": 0, "similar": 2, "worse": 0, "agent_failed": 0, "no_data": 0}
    assert bad["iso_bench"] == {"beats": 0, "similar": 0, "worse": 1, "agent_failed": 1, "no_data": 0}
    human = next(row for row in rows if row["kind"] == "result" and row["arm"] == "human")
    assert human["speedup_vs_baseline"] == pytest.approx(1.05, abs=1e-3)
    assert (human["speedup_vs_human"], human["iso_bench_class"]) == (None, None)
    text = lab.cli("export").stdout
    assert text.index("## small") < text.index("## Agents") < text.index("| measured | small | good | 2 of 2 |")
    table = list(csv.DictReader(io.StringIO(lab.cli("export", "--format", "csv").stdout)))
    assert {row["verdict"] for row in table if row["agent"] == "good"} == {"win"}
    assert {row["verdict"] for row in table if row["arm"] == "baseline"} == {""}


def test_a_simulated_campaign_says_so(lab: Lab) -> None:
    lab.open(A, repeats=1, keys="simulated = true")
    lab.all("a:baseline", [100.0])
    assert "SIMULATED" in lab.cli("compare", "aaaa").stdout
    assert lab.compared()["simulated"] is True


def test_nothing_ran_yet_and_unknown_commits(lab: Lab) -> None:
    lab.open(A, repeats=1)
    text = lab.cli("compare", "aaaa").stdout
    assert "0 of 1 valid; 1 queued" in text
    assert "one is not compared with baseline: no valid attempt of one and baseline" in text
    assert "no task has commit bbbb" in lab.refused("compare", "bbbb", code=4)
    assert "no campaign" in lab.refused("compare", "aaaa", "--campaign", "x", code=4)


def test_what_an_edit_took_out_is_no_failure_of_the_agent(lab: Lab) -> None:
    lab.open(A, B, repeats=1)
    lab.open(A, repeats=1)
    with contextlib.closing(lab.store()) as connection:
        found = tasks(connection, result_rows(connection))
    assert [one.commit for one in found] == [A]


# ------------------------------------------------------------------------------------------------------ by itself


def runs(throughputs: Sequence[float], ground: Ground = GROUND, **metrics: float) -> tuple[Run, ...]:
    more = {name: metric(name, value) for name, value in metrics.items()}
    return tuple(
        Run(
            f"{at}", at, ground, {"output_throughput": metric("output_throughput", value), **more},
            started=100.0 * at, ended=100.0 * at + 90,
        )
        for at, value in enumerate(throughputs)
    )  # fmt: skip


def a_task(*sides: Side, **fields: Any) -> Task:
    return Task("c", False, A, B, "f" * 64, "serving", "m", sides, **fields)


DONE = (JobEnd("done", "success", True),)


def agent_of(found: Comparison) -> Contest:
    return next(one for one in found.contests if one.side.arm == "agent")


@pytest.mark.parametrize(
    "other",
    [
        replace(GROUND, simulated=True),
        replace(GROUND, fingerprint="0" * 64),
        replace(GROUND, host="x"),
        replace(GROUND, host=None),
        replace(GROUND, client="x"),
        replace(GROUND, client=None),
        replace(GROUND, model="x"),
        replace(GROUND, revision="x"),
    ],
)
def test_every_part_of_the_ground_must_be_equal(other: Ground) -> None:
    found = compare(a_task(Side("baseline", "", DONE, runs(STEADY, other)), Side("agent", "a", DONE, runs(STEADY))))
    assert agent_of(found).baseline.refused
    assert not agent_of(found).baseline.metrics


def test_unknown_ground_is_not_equal_to_itself() -> None:
    nowhere = replace(GROUND, host=None)
    sides = Side("baseline", "", DONE, runs(STEADY, nowhere)), Side("agent", "a", DONE, runs(STEADY, nowhere))
    assert "not known on which host" in str(agent_of(compare(a_task(*sides))).baseline.refused)


def test_runs_on_other_ground_are_left_out_and_told() -> None:
    moved = runs([500.0], replace(GROUND, host="fast"))
    found = compare(
        a_task(Side("baseline", "", DONE, runs(STEADY)), Side("agent", "a", DONE, (*runs(STEADY), *moved)))
    )
    shown: Compared = agent_of(found).baseline.metrics["output_throughput"]
    assert shown.ratio.ours == 3
    assert shown.ratio.value == pytest.approx(1.0)
    assert "1 valid attempts stand on other ground" in agent_of(found).baseline.notes[0]


@pytest.mark.parametrize(
    ("ours", "theirs", "word", "percent"),
    [
        (30.0, 40.0, "beats", 25),
        (38.1, 40.0, "similar", 4.75),
        (40.0, 40.0, "similar", 0),
        (43.0, 40.0, "worse", -7.5),
    ],
)
def test_iso_benchs_classes_by_ttft(ours: float, theirs: float, word: str, percent: float) -> None:
    found = iso_class(
        "serving", [{"mean_ttft_ms": metric("mean_ttft_ms", ours)}],
        [{"mean_ttft_ms": metric("mean_ttft_ms", theirs)}], failed=False,
    )  # fmt: skip
    assert (found.word, found.metric) == (word, "mean_ttft_ms")
    assert found.percent == pytest.approx(percent)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("serving", "request_throughput"),
        ("throughput", "tokens_per_second"),
        ("throughput", "requests_per_second"),
        ("prefix_caching", "output_throughput"),
    ],
)
def test_iso_benchs_classes_by_throughput(mode: Any, name: str) -> None:
    def at(value: float) -> list[dict[str, Metric]]:
        return [{name: metric(name, value)}]

    classes = [iso_class(mode, at(value), at(100.0), failed=False).word for value in (106.0, 104.0, 96.0, 94.0)]
    assert classes == ["beats", "similar", "similar", "worse"]
    assert iso_class(mode, [], at(100.0), failed=False).word == "no_data"
    assert iso_class(mode, [], at(100.0), failed=True).word == "agent_failed"


def test_an_agent_fails_only_when_all_is_over_and_the_human_has_a_result() -> None:
    human = Side("human", "", DONE, runs(STEADY, mean_ttft_ms=5.0))
    lost = JobEnd("done", "failed", None, "patch_crash", "agent")
    for jobs, sides, word in (
        ((lost,), (human,), "agent_failed"),
        ((lost, JobEnd("queued")), (human,), "no_data"),
        ((lost,), (), "no_data"),
        ((JobEnd("skipped"),), (human,), "no_data"),
    ):
        iso = agent_of(compare(a_task(*sides, Side("agent", "a", jobs)))).iso
        assert iso is not None
        assert iso.word == word


def test_success_has_the_full_denominator() -> None:
    base, mine = Side("baseline", "", DONE, runs(STEADY)), runs([v * 1.1 for v in STEADY])
    crash = JobEnd("done", "failed", None, "patch_crash", "agent")
    full = JobEnd("done", "failed", None, "disk_full", "infra")
    ends: list[tuple[tuple[JobEnd, ...], tuple[Run, ...]]] = [
        (DONE, mine),
        ((*DONE, full), mine),
        ((*DONE, crash), mine),
        ((full,), ()),
        ((JobEnd("running"),), ()),
        ((JobEnd("skipped"),), ()),
    ]
    (found,) = standings(compare(a_task(base, Side("agent", "a", jobs, kept))) for jobs, kept in ends)
    assert (found.tasks, dict(found.fates)) == (6, {"success": 2, "agent_fault": 1, "other": 2, "unfinished": 1})
    assert found.rate == pytest.approx(1 / 3)
    assert found.low < 1 / 3 < found.high
    assert found.baseline is not None
    assert found.baseline.tasks == 3
    assert found.baseline.value == pytest.approx(1.1)


def test_ranked_by_the_lower_end_not_by_the_point() -> None:
    base = Side("baseline", "", DONE, runs(STEADY))
    steady = Side("agent", "steady", DONE, runs([v * 1.1 for v in STEADY]))
    lucky = Side("agent", "lucky", DONE, runs([90.0, 160.0, 130.0]))
    once = Side("agent", "once", DONE, runs([300.0]))
    failed = Side("agent", "failed", (JobEnd("done", "failed", None, "patch_crash", "agent"),))
    found = standings([compare(a_task(base, failed, once, lucky, steady))])
    assert [one.agent for one in found] == ["steady", "lucky", "once", "failed"]


def test_hostile_words_and_many_agents_fit_the_terminal() -> None:
    nasty = "\x1b]0;x\x07evil\n" + "y" * 300
    ground, flags = replace(GROUND, model=nasty, host=nasty), (Flag("drift", "notes", nasty),)
    mine = tuple(replace(run, flags=flags, image=nasty, vllm=nasty) for run in runs(STEADY, ground))
    agents = [Side("agent", f"agent_{at}" * 6, DONE, mine) for at in range(5)]
    found = compare(a_task(Side("baseline", "", DONE, mine), *agents))
    text = to_text([found, found])
    assert all(len(line) <= 80 for line in text.splitlines())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
