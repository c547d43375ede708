"""Rows out of a real store, and the three formats that carry them to other programs."""

from __future__ import annotations

import argparse
import csv
import gc
import io
import json
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.cli.export import export as command
from isobench_tui.report.export import SCHEMA_VERSION, Format, write_export
from isobench_tui.report.export import export as pieces
from isobench_tui.report.table import ResultRow, result_rows
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import Diagnosis, Evidence, Flag
from isobench_tui.store.db import NoStore, create_store
from isobench_tui.store.workspace import Workspace

COMMIT = "58eee5f2" * 5
PARENT = "a3223766" * 5
FORMATS: tuple[Format, ...] = ("md", "csv", "json")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = create_store(Workspace(tmp_path / "workspace"))
    yield connection
    connection.close()


def insert(connection: sqlite3.Connection, table: str, **columns: Any) -> None:
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values()))


def add_campaign(connection: sqlite3.Connection, number: int, name: str, *, simulated: bool = False) -> None:
    at = "2026-01-24T00:00:00.000Z"
    insert(
        connection, "campaigns", id=number, name=name, spec_path="c.toml", spec_text="", settings="{}",
        simulated=int(simulated), submitted_at=at, updated_at=at,
    )  # fmt: skip
    insert(
        connection, "tasks", id=number, campaign_id=number, commit_sha=COMMIT, parent_sha=PARENT,
        model="facebook/opt-125m", mode="serving", fingerprint="f" * 64, workload="{}",
    )  # fmt: skip


def add_job(connection: sqlite3.Connection, job: str, campaign: int, position: int, **columns: Any) -> None:
    whole = {"state": "queued", "arm": "baseline", "repeat": 0} | columns
    insert(
        connection, "jobs", id=job, identity=job, campaign_id=campaign, task_id=campaign, position=position,
        image="repo:tag", spec="{}", created_at="2026-01-24T00:00:00.000Z", **whole,
    )  # fmt: skip


def add_attempt(connection: sqlite3.Connection, job: str, number: int, outcome: str | None, valid: int | None) -> str:
    ident = f"{job}-{number}"
    insert(
        connection, "attempts", id=ident, job_id=job, number=number, lane=0, state="closed" if outcome else "open",
        outcome=outcome, valid=valid, image_ref="repo:tag", image_digest="sha256:1", vllm_version="0.6.0",
        model_used="facebook/opt-350m", started_at="2026-01-24T00:00:01.000Z", ended_at="2026-01-24T00:01:01.000Z",
    )  # fmt: skip
    return ident


def add_metric(connection: sqlite3.Connection, attempt: str, trial: int, name: str, value: float) -> None:
    insert(
        connection, "metrics", attempt_id=attempt, trial=trial, name=name, value=value, unit="tok/s", better="higher"
    )


def test_one_row_per_job_in_queue_order(store: sqlite3.Connection) -> None:
    add_campaign(store, 1, "first", simulated=True)
    add_campaign(store, 2, "second")
    add_job(store, "z", 1, 0, state="done", outcome="success", valid=1)
    add_job(store, "a", 1, 1)
    add_job(store, "m", 2, 0, arm="agent", agent="trae", repeat=2)
    rows = result_rows(store, None)
    assert [(row.campaign, row.job) for row in rows] == [("first", "z"), ("first", "a"), ("second", "m")]
    assert [row.simulated for row in rows] == [True, True, False]
    assert [row.job for row in result_rows(store, "second")] == ["m"]
    assert result_rows(store, "nothing") == []
    last = rows[-1]
    assert (last.arm, last.agent, last.repeat, last.commit, last.attempts) == ("agent", "trae", 2, COMMIT, 0)
    assert (last.attempt, last.outcome, last.valid, last.diagnosis, last.headline) == (None, None, None, None, None)


def test_the_success_decides_and_else_the_last_attempt(store: sqlite3.Connection) -> None:
    add_campaign(store, 1, "c")
    endings: dict[str, list[tuple[str | None, int | None]]] = {
        "valid": [("failed", None), ("success", 1), ("failed", None)],
        "invalid": [("success", 0), ("success", 0), ("failed", None)],
        "failed": [("failed", None), ("timed_out", None)],
        "running": [("failed", None), (None, None)],
    }
    for position, job in enumerate(endings):
        add_job(store, job, 1, position)
        for number, (outcome, valid) in enumerate(endings[job], 1):
            attempt = add_attempt(store, job, number, outcome, valid)
            add_metric(store, attempt, -1, "output_throughput", float(number))
            add_metric(store, attempt, 0, "output_throughput", 99.0)
    rows = {row.job: row for row in result_rows(store, "c")}
    assert {job: row.number for job, row in rows.items()} == {"valid": 2, "invalid": 2, "failed": 2, "running": 2}
    assert rows["valid"].attempts == 3
    shown = rows["valid"].headline
    assert shown is not None
    assert (shown.value, shown.unit) == (2.0, "tok/s")
    assert (rows["valid"].model_used, rows["valid"].image_digest) == ("facebook/opt-350m", "sha256:1")


def test_diagnosis_and_flags_belong_to_the_deciding_attempt(store: sqlite3.Connection) -> None:
    add_campaign(store, 1, "c")
    add_job(store, "j", 1, 0, state="done", outcome="failed")
    for number, failure in ((1, "timeout"), (2, "server_crash")):
        attempt = add_attempt(store, "j", number, "failed", None)
        insert(
            store, "diagnoses", attempt_id=attempt, failure=failure, blame="undetermined", reason="It died.",
            file="server.log", line=number, text="ValueError: x",
        )  # fmt: skip
        insert(store, "flags", attempt_id=attempt, name="short_window", effect="notes", text=f"{number} s")
    row = result_rows(store, "c")[0]
    proof = Evidence("server.log", 2, "ValueError: x")
    assert row.diagnosis == Diagnosis("server_crash", "undetermined", "It died.", proof)
    assert row.flags == (Flag("short_window", "notes", "2 s"),)


def export(rows: list[ResultRow], fmt: Format) -> str:
    return "".join(pieces(rows, fmt))


def a_row(**changed: Any) -> ResultRow:
    whole: dict[str, Any] = {
        "campaign": "c",
        "simulated": False,
        "job": "j1",
        "position": 0,
        "commit": COMMIT,
        "parent": PARENT,
        "model": "facebook/opt-125m",
        "mode": "serving",
        "arm": "agent",
        "agent": "trae",
        "repeat": 0,
        "state": "done",
        "outcome": "success",
        "valid": True,
        "fingerprint": "f" * 64,
        "image": "repo:tag",
        "metrics": {"output_throughput": metric("output_throughput", 2413.73)},
    }
    return ResultRow(**(whole | changed))


HOSTILE = "a|b`c`\n<script>x</script> [l](http://x) **b** \x1b[31mred\x1b[0m \x07"


def hostile_row(text: str = HOSTILE) -> ResultRow:
    found = Diagnosis("server_crash", "undetermined", text, Evidence("server.log", 3, text))
    return a_row(outcome="failed", valid=None, model=text, diagnosis=found, flags=(Flag("drift", "notes", text),))


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_carries_every_metric_as_a_number() -> None:
    other = a_row(metrics={"mean_ttft_ms": metric("mean_ttft_ms", 0.1)}, repeat=1)
    rows = read_csv(export([a_row(), other], "csv"))
    assert [row["output_throughput"] for row in rows] == ["2413.73", ""]
    assert [row["mean_ttft_ms"] for row in rows] == ["", "0.1"]
    assert rows[0]["commit"] == COMMIT
    assert (rows[0]["valid"], rows[0]["simulated"]) == ("yes", "no")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "\x00=1"])
def test_csv_text_is_no_formula_and_a_number_stays_one(text: str) -> None:
    row = read_csv(export([hostile_row(text)], "csv"))[0]
    for column in ("model", "reason", "evidence_text"):
        assert row[column].startswith("'")
    assert row["evidence_line"] == "3"
    negative = a_row(metrics={"output_throughput": metric("output_throughput", -2.5)})
    assert read_csv(export([negative], "csv"))[0]["output_throughput"] == "-2.5"


def test_markdown_cells_stay_cells() -> None:
    text = export([hostile_row(), a_row()], "md")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {17}
    assert "<script>" not in text
    assert "http://" not in text
    assert "\x1b" not in text
    assert "2,413.73 tok/s" in table[3]


def test_json_is_a_list_of_objects() -> None:
    rows = json.loads(export([hostile_row(), a_row()], "json"))
    assert [row["schema_version"] for row in rows] == [SCHEMA_VERSION] * 2
    assert rows[1]["metrics"] == {"output_throughput": {"value": 2413.73, "unit": "tok/s", "better": "higher"}}
    assert rows[0]["flags"][0]["effect"] == "notes"
    assert (rows[0]["class"], rows[0]["blame"], rows[0]["evidence_line"]) == ("server_crash", "undetermined", 3)
    assert json.loads(export([], "json")) == []


def test_a_simulated_campaign_says_so_everywhere() -> None:
    rows = [a_row(simulated=True), a_row(simulated=True, repeat=1)]
    assert [row["simulated"] for row in read_csv(export(rows, "csv"))] == ["simulated"] * 2
    assert [row["simulated"] for row in json.loads(export(rows, "json"))] == [True] * 2
    text = export(rows, "md")
    assert "## c (simulated" in text
    assert len([line for line in text.splitlines() if line.startswith("| simulated |")]) == 2
    assert "simulated" not in export([a_row()], "md")


@given(st.text(max_size=60), st.sampled_from(FORMATS))
def test_no_text_breaks_an_export(text: str, fmt: Format) -> None:
    out = export([hostile_row(text), a_row()], fmt)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", out)
    if fmt == "csv":
        assert len(read_csv(out)) == 2
    elif fmt == "json":
        assert len(json.loads(out)) == 2
    else:
        table = [line for line in out.split("\n") if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table} == {17}


def test_written_in_one_step_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    target.write_text("old")
    target.chmod(0o644)
    write_export(target, ("new", "\r\n"))
    assert target.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_export(target, ("half ", "\ud800"))
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    with pytest.raises(FileNotFoundError):
        write_export(tmp_path / "nowhere" / "x.csv", ("text",))


def test_the_collector_is_at_work_again_whatever_became_of_an_export(tmp_path: Path) -> None:
    options = argparse.Namespace(workspace=str(tmp_path / "nowhere"))
    with pytest.raises(NoStore):
        command(options)
    assert gc.isenabled()
