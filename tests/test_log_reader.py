"""The log pane's reader: documents of hostile files that grow, shrink, lose their middle; pages, search, filter."""

from __future__ import annotations

import os
import random
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logdirs import START, Desk, Logs

from isobench_tui.runner.logs import LogKeeper
from isobench_tui.tui.log.document import Document
from isobench_tui.tui.log.files import LogFile
from isobench_tui.tui.log.index import BLOCK, LineIndex
from isobench_tui.tui.log.lines import backwards, forwards
from isobench_tui.tui.log.match import Errors, Inverse, compile_pattern
from isobench_tui.tui.log.place import ToLine, ToShare, ToTime
from isobench_tui.tui.log.scan import Scan
from isobench_tui.tui.log.state import ALL
from isobench_tui.tui.log.text import MAX_RAW


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path / "run")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "saved")


def document(logs: Logs, *names: str) -> Document:
    made = Document([LogFile(logs.run, name) for name in names])
    made.refresh()
    return made


def everything(made: Document) -> bytes:
    return made.read(0, made.size)


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


# -- documents


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3 * BLOCK) | st.integers(0, 200), max_size=40),
    st.booleans(),
    st.sampled_from([b"x", b"\r", b"ab "]),
    st.integers(0, 4 * BLOCK),
)
def test_lines_numbers_and_matches_are_those_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], ended: bool, filling: bytes, somewhere: int
) -> None:
    logs = Logs(tmp_path_factory.mktemp("run") / "r")
    raws = [(b"%d " % number + filling * length)[:length] for number, length in enumerate(lengths)]
    data = b"\n".join(raws) + (b"\n" if ended and raws else b"")
    logs.add("server.log", data)
    made = document(logs, "server.log")
    begins = [0, *(found.end() for found in re.finditer(rb"\n", data))] if data else []
    begins = [at for at in begins if at < len(data)]
    assert [line.at for line in forwards(made, 0)] == begins
    assert [line.at for line in backwards(made, made.size)] == begins[::-1]
    index = LineIndex(made)
    while index.step():
        pass
    assert index.lines == len(begins)
    assert [index.offset(number) for number in range(1, len(begins) + 1)] == begins
    assert [index.number(at) for at in begins] == list(range(1, len(begins) + 1))
    scan = Scan(made, compile_pattern(r"^\d*[02468] "))
    while scan.step():
        pass
    short = [at for at, raw in zip(begins, raws, strict=False) if len(raw) <= MAX_RAW]
    want = [at for at in short if re.match(rb"\d*[02468] ", data[at : at + 10].split(b"\n")[0]) and filling != b"\r"]
    hits = [at for block in range(len(data) // BLOCK + 1) for at in scan.hits(block)]
    assert [at for at in hits if at in short] == want or filling == b"\r"
    assert scan.total == len(hits)
    assert next((at for at in scan.after(somewhere) if at is not None), None) == next(
        (at for at in hits if at > somewhere), None
    )
    assert next((at for at in scan.before(somewhere) if at is not None), None) == next(
        (at for at in reversed(hits) if at < somewhere), None
    )


def test_a_growing_log_is_counted_and_searched_on(logs: Logs) -> None:
    made = document(logs, "server.log")
    index, scan = LineIndex(made), Scan(made, compile_pattern("7"))
    rng = random.Random(1)
    text = numbered(1, 30_000)
    at = 0
    while at < len(text):
        size = rng.choice([1, 7, 1000, BLOCK, 100_000])
        logs.add("server.log", text[at : at + size])
        at += size
        made.refresh()
        while index.step() or scan.step():
            pass
        seen = text[:at]
        assert index.breaks == seen.count(b"\n")
        assert scan.total == sum(b"7" in line for line in seen.split(b"\n"))


def test_a_hole_is_left_out_and_said(logs: Logs, desk: Desk) -> None:
    logs.add("server.log", b"head\n" + (b"h" * 99 + b"\n") * 4096 + b"tail\n")
    keeper = LogKeeper(logs.run, ("server.log",), 4096 * 32)
    keeper.tick()
    desk.do(lambda: desk.reader.open(logs.run.path, None))
    desk.do(lambda: desk.reader.look(0, 0, 9999))
    assert desk.texts[0] == "head"
    assert desk.texts[-1] == "tail"
    (notice,) = [text for text in desk.texts if "dropped" in text]
    assert re.fullmatch(r"h* \d{3},\d{3} bytes were dropped here to keep this log below its cap h*", notice)
    assert desk.state.size < 4096 * 32, "the hole is not counted through"


def test_a_hole_punched_while_it_is_read_keeps_the_line_in_view(logs: Logs, desk: Desk) -> None:
    logs.add("server.log", numbered(1, 60_000))
    keeper = LogKeeper(logs.run, ("server.log",), 128 * 1024)
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    desk.do(lambda: desk.reader.go(ToLine(59_900)))
    assert desk.state.jump is not None
    generation = desk.state.generation
    keeper.tick()
    desk.do()
    assert desk.state.generation > generation
    assert "line 59900" in desk.texts
    assert desk.state.lines < 60_000


def test_a_sparse_file_of_terabytes_is_read_in_a_moment(logs: Logs, desk: Desk) -> None:
    with (logs.run.path / "server.log").open("wb") as file:
        file.write(b"first\n")
        file.truncate(1 << 42)
        file.seek((1 << 42) - 6)
        file.write(b"\nlast\n")
    logs.add("client-00.log", b"client\n")
    desk.do(lambda: desk.reader.open(logs.run.path, None))
    assert desk.state.size < 1 << 20
    desk.do(lambda: desk.reader.select("server.log"))
    assert desk.texts[0] == "first"
    assert desk.texts[-1].endswith("last")


def test_a_log_that_shrinks_or_is_replaced_is_read_anew(logs: Logs, desk: Desk) -> None:
    logs.add("server.log", numbered(1, 1000))
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    assert desk.state.lines == 1000
    (logs.run.path / "server.log").write_bytes(b"short\n")
    desk.do()
    assert (desk.state.lines, desk.texts) == (1, ["short"])
    other = logs.run.path / "other"
    other.write_bytes(b"another file\n" * 3)
    other.replace(logs.run.path / "server.log")
    desk.do()
    assert desk.texts == ["another file"] * 3
    (logs.run.path / "server.log").unlink()
    desk.do()
    assert "is not there" in desk.state.problem
    assert desk.texts == []
    logs.add("server.log", b"back\n")
    desk.do()
    assert desk.texts == ["back"]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_plain_file_is_not_opened(logs: Logs, desk: Desk, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host\n")
    path = logs.run.path / "server.log"
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    assert desk.texts == []
    assert "server.log" in desk.state.problem
    (logs.run.path / "server.log.idx").symlink_to(secret)
    desk.do()


# -- logs merged


def test_logs_are_merged_line_by_line_in_the_order_of_time(logs: Logs, desk: Desk) -> None:
    logs.add("setup.log", b"setup 1\nsetup 2\n", 0)
    logs.add("server.log", b"server 1\nserver ", 1)
    logs.add("client-00.log", b"client 1\n", 2)
    logs.add("server.log", b"2\n", 3)
    logs.add("client-00.log", b"client 2\nclient 3, unfinished", 4)
    for name in ("setup.log", "server.log", "client-00.log"):
        logs.age(name)
    desk.do(lambda: desk.reader.open(logs.run.path, None))
    assert desk.texts == [
        "setup 1", "setup 2", "server 1", "client 1", "server 2", "client 2", "client 3, unfinished",
    ]  # fmt: skip
    assert [line.when and line.when - START for line in desk.state.page.lines] == [0, 0, 1, 2, 1, 4, 4]
    logs.add("server.log", b"server 3\n", 5)
    desk.do()
    assert desk.texts[-2:] == ["client 3, unfinished", "server 3"], "what was shown keeps its place"
    assert desk.state.names == ("setup.log", "server.log", "client-00.log")
    logs.add("client-01.log", b"another client\n", 6)
    desk.do()
    assert desk.texts[-1] == "another client"


def test_a_nonsense_index_only_loses_its_times(logs: Logs, desk: Desk) -> None:
    logs.add("server.log", b"one\ntwo\n", 5)
    logs.add("setup.log", b"setup\n")
    with (logs.run.path / "server.log.idx").open("ab") as file:
        file.write(os.urandom(1600) + b"\xff" * 320 + b"\0" * 7)
    desk.do(lambda: desk.reader.open(logs.run.path, None))
    assert sorted(desk.texts) == ["one", "setup", "two"]
    logs.add("server.log", b"three\n")
    desk.do()
    assert "three" in desk.texts


# -- looking around


@pytest.fixture
def numbers(logs: Logs, desk: Desk) -> Desk:
    for start in range(0, 50_000, 10_000):
        logs.add("server.log", numbered(start + 1, start + 10_000), start / 1000)
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    return desk


def test_the_end_is_followed_until_one_looks_elsewhere(numbers: Desk, logs: Logs) -> None:
    desk = numbers
    assert desk.texts[-1] == "line 50000"
    assert desk.state.page.lines[-1].number == 50_000
    logs.add("server.log", b"more\n")
    desk.do()
    assert desk.texts[-1] == "more"
    assert desk.state.follow
    at = desk.state.page.lines[-10].at
    desk.do(lambda: desk.reader.look(at, 5, 5))
    assert len(desk.texts) == 10
    assert not desk.state.follow
    logs.add("server.log", numbered(1, 77))
    desk.do()
    assert desk.state.unread == 77
    assert len(desk.texts) == 10, "the page stays"
    desk.do(lambda: desk.reader.look(None, 5, 0))
    assert desk.state.unread == 0
    assert desk.texts[-1] == "line 77"


def test_a_page_at_the_end_grows_although_nobody_follows(numbers: Desk, logs: Logs) -> None:
    desk = numbers
    at = desk.state.page.lines[-1].at
    desk.do(lambda: desk.reader.look(at, 2, 5))
    logs.add("server.log", b"more\n")
    desk.do()
    assert desk.texts == ["line 49998", "line 49999", "line 50000", "more"]


def test_search_goes_to_the_first_and_on_and_around(numbers: Desk) -> None:
    desk = numbers
    desk.do(lambda: desk.reader.search(compile_pattern("99[0-9]$")))

    def seen() -> str:
        jump = desk.state.jump
        assert jump is not None
        return next(line.shown.text for line in desk.state.page.lines if line.at == jump.at)

    assert desk.state.search is not None
    assert desk.state.search.total == 500
    assert (seen(), desk.state.search.ordinal) == ("line 990", 1)
    assert next(line.hits for line in desk.state.page.lines if line.shown.text == "line 995") == ((5, 8),)
    jump = desk.state.jump
    assert jump is not None
    desk.do(lambda: desk.reader.step(jump.at, back=False))
    assert seen() == "line 991"
    desk.do(lambda: desk.reader.step(jump.at, back=True))
    assert seen() == "line 49999"
    assert desk.state.note == "search went on from the end"
    desk.do(lambda: desk.reader.search(compile_pattern("nowhere")))
    assert "not found" in desk.state.note


def test_a_filter_shows_only_what_matches_and_its_numbers(numbers: Desk, logs: Logs) -> None:
    desk = numbers
    desk.do(lambda: desk.reader.filter(compile_pattern("000$")))
    assert desk.texts == [f"line {number}" for number in range(1000, 50_001, 1000)]
    assert [line.number for line in desk.state.page.lines] == list(range(1000, 50_001, 1000))
    assert desk.state.filter is not None
    assert desk.state.filter.total == 50
    logs.add("server.log", b"no\nline 99000\nno\n")
    desk.do()
    assert desk.texts[-1] == "line 99000"
    desk.do(lambda: desk.reader.search(compile_pattern("line [0-9]*[2-3]000"), -1))
    assert desk.state.jump is not None
    first = desk.state.jump.at
    desk.do(lambda: desk.reader.step(first, back=False))
    found = next(line for line in desk.state.page.lines if desk.state.jump and line.at == desk.state.jump.at)
    assert found.shown.text == "line 3000", "matches that the filter hides are passed over"
    desk.do(lambda: desk.reader.filter(Inverse(compile_pattern("line"))))
    assert desk.texts == ["no", "no"]
    desk.do(lambda: desk.reader.filter(None))
    assert len(desk.texts) > 40


def test_the_first_error_of_many_lines(numbers: Desk, logs: Logs) -> None:
    desk = numbers
    logs.add("server.log", b"ValueError: boom\n" + numbered(1, 10_000) + b"ERROR: again\n")
    desk.do()
    desk.do(lambda: desk.reader.search(Errors()))
    assert desk.state.search is not None
    assert (desk.state.search.total, desk.state.search.ordinal) == (2, 1)
    found = next(line for line in desk.state.page.lines if desk.state.jump and line.at == desk.state.jump.at)
    assert (found.shown.text, found.number) == ("ValueError: boom", 50_001)


def test_places(numbers: Desk) -> None:
    desk = numbers

    def go(place: ToLine | ToTime | ToShare) -> str:
        state = desk.do(lambda: desk.reader.go(place))
        assert state.jump is not None
        return next(line.shown.text for line in state.page.lines if line.at == state.jump.at)

    assert go(ToLine(31_234)) == "line 31234"
    assert go(ToLine(1)) == "line 1"
    assert go(ToLine(10**9)) == "line 50000"
    assert "50,000 lines" in desk.state.note
    assert go(ToTime(START + 10)) == "line 10001"
    assert go(ToTime(START - 99)) == "line 1"
    assert go(ToTime(START + 10**6)) == "line 50000"
    assert go(ToShare(0)) == "line 1"
    assert go(ToShare(1)) == "line 50000"


def test_a_line_of_another_log_of_the_attempt(numbers: Desk, logs: Logs) -> None:
    desk = numbers
    logs.add("client-00.log", numbered(1, 100))
    desk.do()
    desk.do(lambda: desk.reader.go(ToLine(42), "client-00.log"))
    assert desk.state.name == "client-00.log"
    assert desk.state.jump is not None
    assert "line 42" in desk.texts
    desk.do(lambda: desk.reader.go(ToLine(42), "client-77.log"))
    assert desk.state.note == "this attempt has no client-77.log"
    desk.do(lambda: desk.reader.select(ALL))
    desk.do(lambda: desk.reader.go(ToLine(42)))
    assert "no line numbers" in desk.state.note


def test_a_pattern_without_end_is_given_up(logs: Logs, desk: Desk) -> None:
    logs.add("server.log", (b"a" * 4000 + b"c\n") * 200)
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    desk.do(lambda: desk.reader.search(compile_pattern(r"^(a|aa)+$")))
    assert "does not come to an end" in desk.state.note
    desk.do(lambda: desk.reader.filter(compile_pattern(r"^(a|aa)+$")))
    assert "the filter was taken off" in desk.state.note
    assert desk.texts[-1].startswith("aaa")


# -- taking lines along


def test_copied_lines_are_in_a_file_of_the_owner_and_clean(logs: Logs, desk: Desk, tmp_path: Path) -> None:
    logs.add("server.log", b"one\n\x1b]52;c;QQ==\x07two\x1b[31m!\n" + b"x" * 100_000 + b"\nfour\n")
    desk.do(lambda: desk.reader.open(logs.run.path, None, "server.log"))
    lines = desk.state.page.lines
    desk.do(lambda: desk.reader.copy((lines[2].key, lines[0].key), "a/../b"))
    (path,) = (tmp_path / "saved").glob("a-..-b-*.txt")
    assert path.read_text() == "one\ntwo!\n" + "x" * 4096 + " … 95,904 more\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert desk.written[-1].clipboard == path.read_text()
    assert desk.written[-1].note.startswith("copied 3 lines, ")
    assert str(path) in desk.written[-1].note
    logs.add("server.log", numbered(1, 20_000))
    desk.do()
    desk.do(lambda: desk.reader.copy((lines[0].key, desk.state.page.lines[-1].key), "c"))
    assert len(desk.written[-1].clipboard) <= 74_994
    assert "the first 74," in desk.written[-1].note
    (path,) = (tmp_path / "saved").glob("c-*.txt")
    assert path.read_text().endswith("line 20000\n")


def test_saving_takes_what_the_filter_shows(numbers: Desk, tmp_path: Path) -> None:
    desk = numbers
    desk.do(lambda: desk.reader.filter(compile_pattern("000$")))
    for number in (1, 2):
        desk.do(lambda: desk.reader.save("../a server"))
        saved = sorted((tmp_path / "saved").glob("a-server-*.txt"), key=lambda path: path.stat().st_mtime_ns)
        path = saved[-1]
        assert len(saved) == number
        assert path.read_text().splitlines() == [f"line {number}" for number in range(1000, 50_001, 1000)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert desk.written[-1].note == f"saved 50 lines to {path}"


def test_a_folder_that_takes_no_files_is_said(numbers: Desk, tmp_path: Path) -> None:
    (tmp_path / "saved").write_text("a file")
    numbers.do(lambda: numbers.reader.save("x"))
    assert numbers.state.note.startswith("failed: ")


def test_a_disk_that_fails_is_said_and_tried_again(
    numbers: Desk, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: LogFile, offset: int, length: int) -> bytes:
        raise OSError(5, "Input/output error")

    logs.add("server.log", b"more\n")
    with monkeypatch.context() as patched:
        patched.setattr(LogFile, "read", broken)
        numbers.do()
        assert "cannot be read: [Errno 5] Input/output error" in numbers.state.problem
    numbers.do()
    assert numbers.state.problem == ""
    assert numbers.texts[-1] == "more"
