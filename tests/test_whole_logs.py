"""Logs of any size are read whole, in bounded memory, and what they lost in their middle is told."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import THROUGHPUT, A, bench_at, task
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.results import text
from isobench_tui.results.diagnose import diagnose
from isobench_tui.results.life import dead_engine
from isobench_tui.results.parse import parse_client
from isobench_tui.results.text import Hints, blocks, clean, line_at, line_number, pieces
from isobench_tui.store.rundir import LogFile

LINE = b'(APIServer pid=7) INFO:     127.0.0.1:43242 - "POST /v1/completions HTTP/1.1" 200 OK\n'
NOISE = b"(APIServer pid=7) ERROR 11-22 09:04:02 [serving.py:99] one request was cancelled\n"
FULL = b"(APIServer pid=7) ERROR 11-22 09:04:03 [x.py:9] write /x: no space left on device\n"


def as_told(log: bytes, most: int) -> list[tuple[int, bytes]]:
    """The pieces of a log by the definition alone."""
    return [
        (number, part[:most])
        for number, line in enumerate(log.split(b"\n"), 1)
        for part in re.split(rb"[\r\0]", line)
        if part
    ]


WORDS = st.sampled_from([b"\n", b"\r", b"\0", b"\0" * 40, b"error", b"\xff", b"a" * 30, b"b", b"\n\n", b"err"])


@given(st.lists(WORDS, max_size=40).map(b"".join), st.integers(4, 12), st.integers(0, 40))
def test_blocks_change_nothing(log: bytes, most: int, extra: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text, "MAX_PIECE", most)
        patched.setattr(text, "BLOCK", most + extra)
        expected = as_told(log, most)
        assert list(pieces(log)) == expected
        found = list(Hints(b"err", b"b").pieces(log))
        assert [(one.line, one.raw) for one in found] == [
            (number, raw) for number, raw in expected if b"err" in raw or b"b" in raw
        ]
        assert all(log[one.at : one.at + len(one.raw)] == one.raw for one in found)
        assert all(len(block) <= most + extra for _, block in blocks(log))
        for at in range(len(log) + 1):
            assert line_number(log, at) == log.count(b"\n", 0, at) + 1
        for number in range(1, log.count(b"\n") + 3):
            first = next((raw for line, raw in expected if line == number), None)
            assert line_at(log, number) == (None if first is None else clean(first.decode("utf-8", "replace")))


def test_a_cause_between_millions_of_other_errors_is_found() -> None:
    log = NOISE * 50_000 + FULL + NOISE * 50_000
    found = diagnose({"server.log": log}, exit_code=1)
    assert found.failure == "disk_full"
    assert found.evidence is not None
    assert found.evidence.line == 50_001


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[Any]:
    """Makes a file of (offset, bytes), all else of which is a hole."""

    def make(*parts: tuple[int, bytes]) -> LogFile:
        for at, data in parts:
            file.seek(at)
            file.write(data)
        file.flush()
        return LogFile(file.fileno(), file.seek(0, 2))

    with (tmp_path / "server.log").open("wb+") as file:
        yield make


def test_memory_stays_bounded_and_holes_cost_nothing(sparse: Any) -> None:
    """A log of 4 TiB, most of it a hole, with the cause behind 40 MB of lines."""
    block = LINE * 5_000
    parts = [(at * len(block), block) for at in range(90)]
    log = sparse(*parts, (2**42, FULL + LINE))
    assert log.hole() > 2**41
    tracemalloc.start()
    try:
        found = diagnose({"server.log": log}, exit_code=1)
        assert parse_client("serving", log, None).metrics == ()
        assert dead_engine("server.log", log) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.failure == "disk_full"
    assert found.evidence is not None
    assert found.evidence.line == 90 * 5_000 + 1
    assert peak < 4 * 2**20, "block by block"


def test_a_line_without_an_end_is_cut(sparse: Any) -> None:
    log = sparse((0, b"x" * 3_000_000 + b" no space left on device\n" + FULL))
    found = diagnose({"server.log": log}, exit_code=1)
    assert found.evidence is not None
    assert found.evidence.line == 2


def test_a_slice_of_a_log_is_that_of_its_bytes(sparse: Any) -> None:
    log = sparse((0, b"abc"), (10_000, b"def"))
    whole = log[:]
    assert len(log) == len(whole) == 10_003
    for cut in (slice(0, 2), slice(9_999, None), slice(-3, None), slice(5, 2), slice(20_000, 30_000)):
        assert log[cut] == whole[cut]
    with pytest.raises(ValueError, match="forwards"):
        log[::2]


def test_a_log_over_its_cap_is_told_with_the_result(tmp_path: Path) -> None:
    with bench_at(tmp_path) as bench:
        path = bench.write(task(A, THROUGHPUT, FAKE="flood"))
        path.write_text(path.read_text() + '[logs]\ncap = "1MiB"\n')
        bench.cli("run", path)
        (row,) = bench.rows("SELECT a.outcome, a.valid, f.* FROM attempts a JOIN flags f ON f.attempt_id = a.id")
        assert (row["outcome"], row["valid"], row["name"], row["effect"]) == (
            "success", 1, "evidence_missing", "notes",
        )  # fmt: skip
        assert re.fullmatch(r"[\d,]+ bytes of client-00\.log were dropped to keep it below its cap", row["text"])
