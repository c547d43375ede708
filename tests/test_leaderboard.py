"""Leaderboards: over stores that the store's own functions filled, through the command line; bars as literal text."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import A, B
from hypothesis import example, given
from hypothesis import strategies as st
from test_compare import STEADY, Lab, failure, success

from isobench_tui.report import bars
from isobench_tui.report.leaderboard import KEYS, Board, Entry, Group, Key, ordered, read
from isobench_tui.report.leaderboard_text import to_text
from isobench_tui.results.compare import Compared
from isobench_tui.results.models import Diagnosis, Flag, Verdict
from isobench_tui.results.stats import Call, Floor, Ratio
from isobench_tui.store.attempts import Done, Ending


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with contextlib.closing(Lab(tmp_path)) as made:
        yield made


def the_board(lab: Lab) -> Board:
    with contextlib.closing(lab.store()) as connection:
        return read(connection)


def told(lab: Lab, *argv: str) -> dict[str, Any]:
    return dict(json.loads(lab.cli("leaderboard", "--json", *argv).stdout))


def invalid(value: float) -> Ending:
    flags = (Flag("failed_requests", "invalidates", "requests failed: 3 of 4"), Flag("drift", "notes", "no matter"))
    return Ending(Verdict("success", metrics=success(value).verdict.metrics, flags=flags), Done(), counts=True)


# ----------------------------------------------------------------------------------------------- through the door


def test_ranked_by_the_lower_end_with_what_failed_apart(lab: Lab) -> None:
    lab.open(A, agents=("steady", "lucky", "bad"))
    lab.all("a:baseline", STEADY)
    lab.all("a:human", [v * 1.05 for v in STEADY])
    lab.all("a:steady", [v * 1.1 for v in STEADY])
    lab.all("a:lucky", [90.0, 160.0, 130.0])
    for number in (1, 3):
        lab.end(f"a:bad#{number}", failure("agent"))
    lab.end("a:bad#2", invalid(500.0))
    (group,) = told(lab)["workloads"]
    assert [(one["agent"] or one["arm"], one["rank"]) for one in group["sides"]] == [
        ("steady", 1), ("human", 2), ("lucky", 3), ("baseline", None),
    ]  # fmt: skip
    assert (group["metric"], group["unit"], group["better"], group["waiting"]) == (
        "output_throughput", "tok/s", "higher", 0,
    )  # fmt: skip
    first = group["sides"][0]
    assert first["over_baseline"]["speedup"] == pytest.approx(1.1)
    assert (first["over_baseline"]["verdict"], first["n"], first["valid_jobs"], first["jobs"]) == ("win", 3, 3, 3)
    assert first["mean"] == pytest.approx(110.18, abs=0.01)
    assert first["over_human"]["speedup"] == pytest.approx(1.1 / 1.05)
    assert "short_window" in first["flags"]  # and `drift`, where this host was slow enough to make a trend
    apart = [(one["agent"], one["class"], one["blame"], one["repeats"]) for one in group["apart"]]
    assert apart == [("bad", "patch_crash", "agent", [1, 3]), ("bad", "invalid", None, [2])]
    assert group["apart"][1]["reason"] == "failed_requests: requests failed: 3 of 4"
    agents = {one["agent"]: one for one in told(lab)["agents"]}
    assert (agents["bad"]["tasks"], agents["bad"]["successes"], agents["bad"]["agent_faults"]) == (1, 0, 1)

    text = lab.cli("leaderboard").stdout
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"^1 +aaaaaaaa steady +3 +110\.18 +1\.100 \[1\.0\d+, 1\.1\d+\] win$", text, re.MULTILINE)
    assert "- aaaaaaaa  bad repeat 1, 3: patch_crash (agent): It crashed." in text
    assert "  succeeded 0 of 1, 0 % [0 %, 79 %]" in text
    assert text.index("steady  ") < text.index("lucky  ") < text.index("reference")
    by_side = lab.cli("leaderboard", "--sort", "side").stdout
    assert by_side.index("baseline ") < by_side.index("human ") < by_side.index("lucky ") < by_side.index("steady ")


def test_one_repeat_has_no_rank_and_says_so(lab: Lab) -> None:
    lab.open(A, repeats=1)
    lab.all("a:baseline", [100.0])
    lab.all("a:one", [130.0])
    (group,) = told(lab)["workloads"]
    assert [(one["rank"], one["n"]) for one in group["sides"]] == [(None, 1), (None, 1)]
    assert group["waiting"] == 1, "the human is not over"
    text = lab.cli("leaderboard").stdout
    assert "1.300 (n=1, no CI)" in text
    assert "2 more repeats" in text
    assert "1 job is not over" in text


def test_without_a_baseline_there_is_a_number_and_no_speedup(lab: Lab) -> None:
    lab.open(A, repeats=1)
    lab.end("a:baseline#1", failure("infra"))
    lab.all("a:one", [130.0])
    (group,) = told(lab)["workloads"]
    (mine,) = group["sides"]
    assert (mine["over_baseline"], mine["mean"]) == (None, 130.0)
    assert mine["not_compared"] == "no valid attempt of baseline"
    assert "not compared: no valid attempt of baseline" in lab.cli("leaderboard").stdout


def test_commits_with_one_workload_share_a_table_and_campaigns_do_not(lab: Lab) -> None:
    lab.open(A, B, repeats=1, keys="simulated = true")
    for commit in "ab":
        lab.all(f"{commit}:baseline", [100.0])
        lab.all(f"{commit}:one", [120.0])
    board = the_board(lab)
    assert [[(one.commit[0], one.name) for one in group.entries] for group in board.groups] == [
        [("a", "one"), ("b", "one"), ("a", "baseline"), ("b", "baseline")]
    ]
    assert board.groups[0].simulated
    assert "SIMULATED" in lab.cli("leaderboard").stdout
    lab.open(A, repeats=1, name="again", file="again.toml")
    lab.all("again/a:baseline", [100.0])
    assert [group.campaign for group in the_board(lab).groups] == ["small", "again"]
    assert [one["campaign"] for one in told(lab, "--campaign", "again")["workloads"]] == ["again"]
    assert "no campaign named" in lab.refused("leaderboard", "--campaign", "x", code=4)


def test_nothing_ran(lab: Lab) -> None:
    lab.open(A, repeats=1)
    (group,) = told(lab)["workloads"]
    assert (group["sides"], group["apart"], group["waiting"]) == ([], [], 3)
    assert to_text(Board()) == "no results yet\n"
    lab.command("skip", "aaaa:one")
    assert [(one["class"], one["blame"]) for one in told(lab)["workloads"][0]["apart"]] == [("skipped", None)]


def test_hostile_words_stay_words(lab: Lab) -> None:
    nasty = "\x1b]0;x\x07[red]evil[/]\n| `a`"
    lab.open(A, repeats=1)
    lab.end(
        "a:one#1", Ending(Verdict("failed", diagnosis=Diagnosis("patch_crash", "agent", nasty)), Done(), counts=True)
    )
    text = lab.cli("leaderboard").stdout
    assert "[red]evil[/] | `a`" in text
    assert "\x1b" not in text
    assert "\x1b" not in lab.cli("leaderboard", "--json").stdout


def test_written_to_files_in_every_form(lab: Lab) -> None:
    nasty = "=1+1 | [red]evil[/]\x1b[31m"
    lab.open(A, keys="simulated = true")
    lab.all("a:baseline", STEADY)
    lab.all("a:one", [v * 1.1 for v in STEADY])
    found = Diagnosis("patch_crash", "agent", nasty)
    lab.end("a:human#1", Ending(Verdict("failed", diagnosis=found), Done(), counts=True))
    table = list(csv.DictReader(io.StringIO(lab.cli("export", "leaderboard", "--format", "csv").stdout)))
    assert [(row["source"], row["rank"], row["agent"], row["arm"]) for row in table] == [
        ("simulated", "1", "one", "agent"), ("simulated", "", "", "baseline"), ("simulated", "", "", "human"),
    ]  # fmt: skip
    assert float(table[0]["speedup_vs_baseline"]) == pytest.approx(1.1)
    assert (table[2]["class"], table[2]["reason"], table[2]["repeats"]) == (
        "patch_crash",
        "'=1+1 | [red]evil[/]",
        "1",
    )
    text = lab.cli("export", "leaderboard").stdout
    assert "SIMULATED" in text
    assert "=1+1 \\| \\[red\\]evil\\[/\\]" in text
    assert json.loads(lab.cli("export", "leaderboard", "--json").stdout) == told(lab)
    story = json.loads(lab.cli("export", "events", "--json").stdout)
    assert [one["kind"] for one in story[:2]] == ["submitted", "started"]
    assert "\x1b" not in json.dumps(story)
    events = list(csv.DictReader(io.StringIO(lab.cli("export", "events", "--format", "csv").stdout)))
    assert len(events) == len(story)
    assert lab.cli("export", "events", "--campaign", "small").stdout.count("\n| ") == len(story) + 2


# ------------------------------------------------------------------------------------------------------ by itself


def entry(name: str, log: float | None, value: float, half: float | None = 0.1, human: float | None = None) -> Entry:
    def against(number: float | None) -> Compared | None:
        if number is None:
            return None
        return Compared("m", "higher", Ratio(3, 3, number, half), Floor(0.02, assumed=True, repeats=3), Call("tie"))

    return Entry(None, name * 8, "agent", name, name, 1, 1, ord(name), value, against(log), against(human))


ENTRIES = (
    replace(entry("a", 0.1, 30.0), rank=1),
    replace(entry("b", 0.3, 10.0, human=0.2), rank=2),
    entry("c", 0.2, 20.0, half=None, human=0.3),
    entry("d", None, 40.0),
)


def group(better: Any = "higher") -> Group:
    return Group("c", False, "f" * 64, "serving", "m", "output_throughput", "tok/s", better, ENTRIES, (), 0)


@pytest.mark.parametrize(
    ("key", "better", "forward", "backward"),
    [
        ("rank", "higher", "abcd", "bacd"),
        ("speedup", "higher", "bcad", "acbd"),
        ("human", "higher", "cbad", "bcad"),
        ("value", "higher", "dacb", "bcad"),
        ("value", "lower", "bcad", "dacb"),
        ("n", "higher", "dcba", "abcd"),
        ("commit", "higher", "abcd", "dcba"),
        ("side", "higher", "abcd", "dcba"),
    ],
)
def test_sorted_by_every_key_and_what_lacks_it_stands_last(
    key: Key, better: str, forward: str, backward: str
) -> None:
    assert "".join(one.agent for one in ordered(group(better), key)) == forward
    assert "".join(one.agent for one in ordered(group(better), key, reverse=True)) == backward


def test_every_key_of_the_table_is_a_key_of_the_command(lab: Lab) -> None:
    words = lab.cli("leaderboard", "--help").stdout
    assert f"{{{','.join(KEYS)}}}" in words or ", ".join(KEYS) in " ".join(words.split())


@pytest.mark.parametrize(
    ("value", "low", "high", "drawn"),
    [
        (1.0, None, None, "    ●    "),
        (2.0, None, None, "    ┊ ●  "),
        (2.0, 1.41, 2.83, "    ┊├●┤ "),
        (1.0, 0.5, 2.0, "  ├─●─┤  "),
        (0.5, 0.25, 0.71, "├─●┤┊    "),
        (2.0, 0.1, 3.0, "◂─────●┤ "),
        (2.0, 1.5, 40.0, "    ┊├●─▸"),
        (9.0, None, None, "    ┊   ●"),
    ],
)
def test_an_interval_in_characters(value: float, low: float | None, high: float | None, drawn: str) -> None:
    assert bars.interval(value, low, high, (0.25, 4.0), 9) == drawn


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ((), "         "),
        ((0.0, 8.0), "·       ·"),
        ((4.0, 4.0, 8.0), "    •   ·"),
        ((4.0,) * 3, "    ●    "),
        ((-5.0, 50.0), "·       ·"),
    ],
)
def test_values_as_dots(values: tuple[float, ...], drawn: str) -> None:
    assert bars.dots(values, (0.0, 8.0), 9) == drawn


@given(
    st.floats(1e-300, 1e300),
    st.none() | st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300)),
    st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
    st.integers(1, 60),
)
@example(1e300, None, (1e-9, 2e-9), 60)
def test_a_bar_never_leaves_its_place(
    value: float, ends: tuple[float, float] | None, scale: tuple[float, float], width: int
) -> None:
    low, high = (None, None) if ends is None else sorted(ends)
    drawn = bars.interval(value, low, high, (min(scale), max(scale)), width)
    assert len(drawn) == width
    assert drawn.count("●") == 1
    assert len(bars.dots([value], scale, width)) == width
