"""Flags that depend on the other attempts of a task: pure, and in the store whenever an attempt ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import A, Bench, bench_at, task
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.campaign.models import Validity
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import ClientResult, Flag, TrialFacts, Verdict
from isobench_tui.results.sibling_flags import Measured, flags_among
from isobench_tui.store import attempts, db
from isobench_tui.store.attempts import Done, Ending, Trial

LIMITS = Validity()
BASE = Measured(
    attempt="b",
    arm="baseline",
    agent="",
    repeat=0,
    ref="x/vllm:baseline",
    digest="sha256:" + "a" * 64,
    client="c" * 64,
    model="m",
    requests=100,
    prompt_tokens=256,
    output_tokens=64,
    metric="output_throughput",
    value=100.0,
    started=0,
    ended=10,
)
ONE = replace(BASE, attempt="o", arm="agent", agent="one", started=20, ended=30)
HUMAN = replace(BASE, attempt="h", arm="human", ref="x/vllm:human", digest="sha256:" + "f" * 64, started=40, ended=50)


def raised(*attempts: Measured, floor: float = 0.02) -> dict[str, dict[str, tuple[str, str]]]:
    found = flags_among(attempts, LIMITS, floor)
    return {key: {flag.name: (flag.effect, flag.text) for flag in flags} for key, flags in found.items() if flags}


def test_equal_attempts_raise_nothing() -> None:
    assert raised(BASE, ONE, HUMAN) == {}
    assert raised(ONE, HUMAN) == {}, "nor does a task without a baseline"
    assert raised() == {}


@pytest.mark.parametrize(
    ("one", "name", "effect", "words"),
    [
        (replace(ONE, client="d" * 64), "client_modified", "invalidates", "dddddddddddd, the baseline with cccccccc"),
        (replace(HUMAN, client="d" * 64), "client_modified", "notes", "as its image has it"),
        (replace(ONE, prompt_tokens=231), "workload_mismatch", "invalidates", "231 here, 256 in the baseline"),
        (replace(HUMAN, requests=1), "workload_mismatch", "invalidates", "requests: 1 here, 100 in the baseline"),
        (replace(HUMAN, unseeded=True), "workload_mismatch", "invalidates", "1 of 2 clients takes no seed (here)"),
        (replace(ONE, output_tokens=60), "workload_mismatch", "notes", "output tokens a request: 60 here, 64"),
        (replace(HUMAN, model="n", revision="r" * 40), "workload_mismatch", "notes", "n@rrrrrrrrrrrr here, m in the"),
        (replace(ONE, digest="sha256:" + "e" * 64), "image_changed", "invalidates", "eeee here and sha256:aaaaaaa"),
    ],
)
def test_what_differs_from_the_baseline(one: Measured, name: str, effect: str, words: str) -> None:
    found = raised(BASE, one)
    assert {*found} == {one.attempt}
    assert {key: value[0] for key, value in found[one.attempt].items()} == {name: effect}
    assert words in found[one.attempt][name][1]


@pytest.mark.parametrize(
    "one",
    [
        replace(ONE, client=None),
        replace(ONE, requests=None, prompt_tokens=None, output_tokens=None, model=None),
        replace(ONE, digest=None, image_id="sha256:1"),
        replace(ONE, prompt_tokens=252),
        replace(ONE, value=0.0),
        replace(ONE, value=None),
    ],
)
def test_what_is_not_known_or_within_the_tolerance_raises_nothing(one: Measured) -> None:
    assert raised(BASE, one) == {}


def test_a_moved_tag_is_no_patch_that_changed_the_client() -> None:
    moved = replace(ONE, digest="sha256:" + "e" * 64, client="d" * 64)
    found = raised(BASE, moved)["o"]
    assert {name: effect for name, (effect, _) in found.items()} == {
        "image_changed": "invalidates",
        "client_modified": "notes",
    }
    local = replace(BASE, digest=None, image_id="1"), replace(ONE, digest=None, image_id="2")
    assert {*raised(*local)["o"]} == {"image_changed"}, "images that no registry has are told apart by their ids"


def series(side: Measured, *values: float, start: float = 0, step: float = 3600) -> list[Measured]:
    return [
        replace(side, attempt=f"{side.name}{at}", repeat=at, value=value, started=start + at * step,
                ended=start + at * step + 600)
        for at, value in enumerate(values)
    ]  # fmt: skip


def test_a_value_far_out_is_told_and_kept() -> None:
    found = raised(*series(BASE, 100, 100.5, 99.5, 100.2, 140))
    assert {*found} == {"baseline4"}
    effect, text = found["baseline4"]["outlier"]
    assert effect == "notes"
    assert text.startswith("output_throughput of baseline, repeat 5: MAD-z ")
    assert raised(*series(BASE, 100, 100.5, 99.5, 100.2, 140), floor=0.5) == {}


def test_a_trend_through_all_arms_is_told_of_every_run() -> None:
    runs = [*series(BASE, 100, 103, 106, 109.1), *series(ONE, 120, 123.5, 127, 131, start=1800)]
    found = raised(*runs)
    assert {*found} == {run.attempt for run in runs}
    assert {tuple(flags) for flags in found.values()} == {("drift",)}
    assert "output_throughput changed by +" in found["one0"]["drift"][1]
    assert raised(*series(BASE, 100, 101, 100, 101), *series(ONE, 101, 100, 101, 100, start=1800)) == {}


def test_arms_that_ran_in_blocks_are_told() -> None:
    found = raised(*series(BASE, 100, 101, 100), *series(ONE, 120, 121, 120, start=20_000))
    assert {*found} == {"one0", "one1", "one2"}
    assert "all 3 of one ran before or after all 3 of baseline" in found["one0"]["drift"][1]


def test_what_does_not_count_is_no_part_of_a_series() -> None:
    runs = series(BASE, 100, 100.5, 99.5, 100.2, 140)
    runs[4] = replace(runs[4], digest="sha256:" + "e" * 64)
    assert {*raised(*runs)["baseline4"]} == {"image_changed"}


number = st.none() | st.floats(0, 1e12, allow_nan=False) | st.sampled_from([0.0, 1.0, 100.0])
measured = st.builds(
    Measured,
    attempt=st.uuids().map(str),
    arm=st.sampled_from(["baseline", "human", "agent"]),
    agent=st.sampled_from(["", "one", "two"]),
    repeat=st.integers(0, 5),
    ref=st.sampled_from(["a", "b"]),
    digest=st.none() | st.sampled_from(["x", "y"]),
    image_id=st.none() | st.sampled_from(["x", "y"]),
    client=st.none() | st.sampled_from(["x", "y"]),
    unseeded=st.booleans(),
    model=st.none() | st.sampled_from(["m", "n"]),
    requests=number,
    prompt_tokens=number,
    output_tokens=number,
    metric=st.just("output_throughput"),
    value=number,
    valid=st.booleans(),
    started=st.floats(0, 1e9),
    ended=st.floats(0, 1e9),
)


@given(st.lists(measured, max_size=12, unique_by=lambda one: one.attempt))
def test_nothing_is_too_wild(attempts: list[Measured]) -> None:
    found = flags_among(attempts, LIMITS, 0.02)
    assert {*found} == {one.attempt for one in attempts}
    assert found == flags_among(attempts, LIMITS, 0.02)
    for flags in found.values():
        names = [flag.name for flag in flags]
        assert len(names) == len(set(names)), "one row a name"
        assert all(any(char.isdigit() for char in flag.text) for flag in flags), "each has the number that raised it"


# --------------------------------------------------------------------------------------------------- in the store


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        made.submit(made.write(task(A, patch="faster.diff"), campaign='arms = ["baseline", "agent"]\nrepeats = 2'))
        yield made


def end(bench: Bench, name: str, *own: Flag, **columns: Any) -> str:
    """A success from its start to its end; its id."""
    attempt = bench.begin(name)
    completed = columns.pop("completed", 100)
    means = metric("output_throughput", 100.0), metric("total_input_tokens", 256.0 * completed)
    facts = TrialFacts(0, True, 0, ClientResult(means, None, completed, completed, 0))
    client = columns.pop("client", "c" * 64)
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        attempts.update(connection, attempt, image_digest=columns.pop("digest", "sha256:a"))
    trials = (Trial(facts, ("x",), 0, None, 1.0),)
    verdict = Verdict("success", metrics=means, flags=own)
    bench.finish(attempt, Ending(verdict, Done(), counts=True, model_used="m", client_sha256=client, trials=trials))
    return attempt


def flags(bench: Bench) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in bench.rows("SELECT attempt_id, name, effect FROM flags ORDER BY name"):
        found.setdefault(row["attempt_id"], {})[row["name"]] = row["effect"]
    return found


def told(bench: Bench) -> list[str]:
    return [row["text"] for row in bench.rows("SELECT text FROM events WHERE kind = 'flags' ORDER BY id")]


def test_a_late_baseline_takes_a_result_back_and_says_so(bench: Bench) -> None:
    one = end(bench, "a:one#1", client="d" * 64)
    assert bench.job("a:one#1")["valid"] == 1
    assert told(bench) == []
    end(bench, "a:baseline#1")
    assert flags(bench) == {one: {"client_modified": "invalidates"}}
    job = bench.job("a:one#1")
    assert (job["state"], job["outcome"], job["valid"]) == ("done", "success", 0)
    (text,) = told(bench)
    assert text.startswith(
        "aaaaaaaa:one#1 attempt 1 client_modified (invalidates): measured with sha256 dddddddddddd"
    )
    assert text.endswith("; it no longer counts")
    end(bench, "a:baseline#2")
    assert len(told(bench)) == 1, "what stays as it is is no event"
    story = bench.cli("why", "aaaa:one").stdout
    assert "succeeded" in story
    assert "but the result does not count" in story
    assert "client_modified (invalidates)" in story


def test_a_flag_goes_when_what_raised_it_turns_out_not_to_count(bench: Bench) -> None:
    end(bench, "a:baseline#1", Flag("gpu_busy", "invalidates", "7 GiB"), completed=50)
    one = end(bench, "a:one#1")
    assert flags(bench)[one] == {"workload_mismatch": "invalidates"}
    end(bench, "a:baseline#2")
    assert one not in flags(bench), "the valid baseline is the better reference"
    assert bench.job("a:one#1")["valid"] == 1
    assert told(bench)[-1].endswith("no longer workload_mismatch; it counts again")


def test_what_an_attempts_own_files_raised_stays(bench: Bench) -> None:
    end(bench, "a:baseline#1")
    own = Flag("client_modified", "invalidates", "the patch changes 1 of 14 files that measure it: x.py")
    one = end(bench, "a:one#1", own, client="d" * 64)
    assert bench.rows("SELECT text, sibling FROM flags WHERE attempt_id = ?", one) == [
        {"text": own.text, "sibling": 0}
    ]
    end(bench, "a:one#2")
    assert [row["text"] for row in bench.rows("SELECT text FROM flags WHERE attempt_id = ?", one)] == [own.text]


def test_a_moved_tag_is_seen_between_repeats(bench: Bench) -> None:
    first, second = end(bench, "a:baseline#1"), end(bench, "a:baseline#2", digest="sha256:b")
    assert flags(bench) == {second: {"image_changed": "invalidates"}}
    assert (bench.job("a:baseline#1")["valid"], bench.job("a:baseline#2")["valid"]) == (1, 0)
    assert first not in flags(bench)
