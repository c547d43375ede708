"""What the log pane shows of bytes: colours and nothing else that a terminal obeys; and that search sees the same."""

from __future__ import annotations

import re

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from isobench_tui.tui.copying import OSC52_MOST, clipped
from isobench_tui.tui.log.match import BadPattern, Errors, Inverse, TooSlow, compile_pattern
from isobench_tui.tui.log.place import BadPlace, ToLine, ToShare, ToTime, parse_place
from isobench_tui.tui.log.text import MAX_RAW, MAX_SHOWN, plain, shown
from isobench_tui.tui.log.wrap import index_at, rows

HOSTILE = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from(
            [b"\x1b[31m", b"\x1b[0m", b"\x1b[38;5;9m", b"\x1b[38;2;1;2;3m", b"\x1b]0;title\x07",
             b"\x1b]52;c;QQ==\x1b\\",
             b"\x1b]8;;http://x\x1b\\", b"\x1b[2J", b"\x1b[?1049h", b"\x1bP", b"\x1b_x\x1b\\", b"\x1b", b"\r", b"\0",
             b"\t", b"\x9b31m", "\x9b31m".encode(), "\x9d0;t\x9c".encode(), "\u202e".encode(), "\u2066".encode(),
             "e\u0301\u0301\u0301\u0301\u0301".encode(), "\ufe0f".encode(), "漢字".encode(),
             b"[red]", b"[/]", b"\x1b[8m",
             b"\x1b[99999999999999999999m", b"\x1b[;;;m", b"\x1b[38m", b"\x1b[38;5m", b"\x1b[48;2;300;0;0m"]
        ),
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


def harmless(text: str) -> bool:
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]", text)


@given(HOSTILE)
def test_no_byte_leaves_anything_that_a_terminal_obeys(raw: bytes) -> None:
    line = shown(raw.replace(b"\n", b""))
    assert harmless(line.text)
    assert not {"\n", "\r", "\t"} & set(line.text)
    assert len(line.text) <= MAX_SHOWN
    last = 0
    for start, end, style in line.styles:
        assert last <= start < end <= len(line.text)
        assert not (style.blink or style.conceal or style.reverse or style.link)
        last = end


@given(st.lists(HOSTILE.map(lambda raw: raw.replace(b"\n", b"")), min_size=1, max_size=5))
def test_lines_read_together_are_the_lines_read_alone(raws: list[bytes]) -> None:
    assert plain(b"\n".join(raws)).split("\n") == [shown(raw).text for raw in raws]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"bar  1%\rbar 50%\rbar 100%\r", "bar 100%"),
        (b"windows\r", "windows"),
        (b"\x1b]0;a title\x07seen", "seen"),
        (b"\x1b]52;c;Y2xpcA==\x1b\\seen", "seen"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]0;a title without end", ""),
        (b"\x1b]0;title\x1b[31mred", "red"),
        (b"\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        (b"\x1b[2J\x1b[Hscreen\x1b[?1049h", "screen"),
        ("\x9b31mC1 \x9d0;t\x9cend".encode(), "C1 end"),
        (b"\xff\xfe \xc3\x28", "�� �("),
        (b"a\0\0b", "ab"),
        (b"a\tb", "a       b"),
        ("right to left \u202e\u2067txt".encode(), "right to left txt"),
        (("o" + "\u0301" * 100).encode(), "o" + "\u0301" * 3),
        (b"[red]not markup[/red]", "[red]not markup[/red]"),
        (b"back\b\b\b\bover", "backover"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_line(raw: bytes, text: str) -> None:
    assert shown(raw).text == text


def test_colours_become_styles_at_their_places() -> None:
    line = shown(b"ok \x1b[1;31mbad\x1b[0m \x1b[38;5;200mpink\x1b[39m \x1b[38;2;1;2;3mrgb\x1b[m \x1b[30;40mhidden")
    assert [(line.text[start:end], str(style)) for start, end, style in line.styles] == [
        ("bad", "bold color(1)"),
        ("pink", "color(200)"),
        ("rgb", "#010203"),
        ("hidden", "color(0)"),  # not on its own colour
    ]


def test_a_colour_keeps_its_letters_where_others_vanish_before_it() -> None:
    line = shown("\u202eé\x1b[32mgrün\t\x1b[0mweiß".encode())
    (start, end, _style), *_ = line.styles
    assert line.text[start:end].rstrip() == "grün"


def test_long_lines_are_cut_and_say_so() -> None:
    line = shown(b"x" * 10_000, more=5)
    assert line.text == "x" * MAX_SHOWN
    assert line.more == 10_000 - MAX_SHOWN + 5


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "raw",
    [
        b"\x1b]" * 200_000, b"\x1b[" + b"0;" * 200_000, "\x90".encode() * 100_000 + b"\x1b[", b"\x1b[31m" * 60_000,
        b"a\r" * 200_000, b"a" * 400_000 + b"\n" + b"b\rc", ("e" + "\u0301" * 200_000).encode(), b"\x1b[" * 200_000,
        b"\x1b]0;" + b"a" * 400_000, b"\x9b" * 400_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_no_text_takes_long_to_clean(raw: bytes) -> None:
    # quadratic work on 400 kB would be minutes, and the time limit of a test ends it
    plain(raw)
    shown(raw[:MAX_RAW])


# -- patterns


@given(
    st.lists(st.text("ab \t", max_size=6), min_size=1, max_size=12),
    st.sampled_from(
        ["a", "A", "a.*b", r"a\s+b", "^a", "b$", r"\Aa", r"b\Z", "^$", "$", r"(?<!a)b", r"a(?!b)", "[^a]+b", r"(a)\1",
         r"a*+b", "(?s)a.b", r"\n", "|a", r"\s*"]
    ),
)  # fmt: skip
def test_a_pattern_finds_in_a_block_what_it_finds_in_each_line(lines: list[str], pattern: str) -> None:
    matcher = compile_pattern(pattern)
    alone = regex.compile(pattern, regex.MULTILINE | (0 if pattern == "A" else regex.IGNORECASE))
    want = [number for number, line in enumerate(lines) if alone.search(line.expandtabs())]
    raw = "\n".join(lines).encode()
    assert matcher.lines(raw) == want
    assert Inverse(matcher).lines(raw) == [number for number in range(len(lines)) if number not in want]


def test_capital_letters_make_a_pattern_strict() -> None:
    raw = b"Error\nerror\nERROR"
    assert compile_pattern("error").lines(raw) == [0, 1, 2]
    assert compile_pattern("Error").lines(raw) == [0]
    assert compile_pattern(r"\Drror").lines(raw) == [0, 1, 2], "an escape is no letter"


def test_a_pattern_sees_through_colours_and_not_beyond_the_cut() -> None:
    assert compile_pattern("ERROR here").lines(b"\x1b[31mERR\x1b[1mOR\x1b[0m here") == [0]
    assert compile_pattern("needle").lines(b"x" * MAX_SHOWN + b"needle\nneedle") == [1]


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<a>", "a{99999999999999999999}", "\\", "(?<=a+)" * 2 + "("])
def test_what_is_no_pattern_is_said(pattern: str) -> None:
    with pytest.raises(BadPattern, match="regular expression"):
        compile_pattern(pattern)


def test_a_pattern_without_end_is_ended() -> None:
    matcher = compile_pattern(r"^(a|aa)+$")
    with pytest.raises(TooSlow):
        matcher.lines(b"a" * 4000 + b"c")
    with pytest.raises(TooSlow):
        matcher.spans("a" * 4000 + "c")


def test_errors_are_those_of_the_diagnosis_and_all_of_them() -> None:
    calm = b"INFO all is well\nWARNING so so"
    assert Errors().lines(calm) == []
    assert Errors().lines(calm + b"\nValueError: boom\nTraceback (most recent call last):") == [2]
    flood = b"\n".join(b"ERROR: number %d" % number for number in range(1000))
    assert Errors().lines(flood) == list(range(1000)), "more than the finder keeps of one block"
    assert Errors().spans("ValueError: boom") == ((0, 16),)
    assert Errors().spans("all is well") == ()


# -- places, rows, the clipboard


def test_places() -> None:
    base = parse_place("2026-01-24 14:32:10", first=None, here=None)
    assert isinstance(base, ToTime)
    first = base.at
    assert parse_place("1200", first=None, here=None) == ToLine(1200)
    assert parse_place(" 50% ", first=None, here=None) == ToShare(0.5)
    assert parse_place("-5m", first=None, here=first) == ToTime(first - 300)
    assert parse_place("+2h", first=None, here=first) == ToTime(first + 7200)
    assert parse_place("14:33", first=first, here=None) == ToTime(first - 10 + 60)
    assert parse_place("14:32", first=first, here=None) == ToTime(first - 10), "the minute in which it began"
    assert parse_place("13:00", first=first, here=None) == ToTime(first - 10 - 92 * 60 + 86_400), "the next day"
    for text in ("", "soon", "25:00", "-5m", "14:99", "x%", "2026-13-40 10:00"):
        with pytest.raises(BadPlace):
            parse_place(text, first=None, here=None)


@given(
    st.text(max_size=200).map(lambda text: shown(text.replace("\n", "").encode("utf-8", "replace")).text),
    st.integers(2, 40),
)
def test_rows_hold_the_whole_line_and_fit(text: str, width: int) -> None:
    found = rows(text, width)
    assert "".join(text[start:end] for start, end in found) == text
    assert all(cell_len(text[start:end]) <= width for start, end in found)
    assert 0 <= index_at(text, width) <= max(len(text), width)


def test_words_stay_whole_where_a_row_ends() -> None:
    text = "aaaa aaaa bbbb cc"
    assert [text[start:end] for start, end in rows(text, 12)] == ["aaaa aaaa ", "bbbb cc"]


@given(st.text(alphabet="aé漢\n", max_size=60).map(lambda text: text * 2500))
def test_the_clipboard_gets_no_more_than_terminals_take(text: str) -> None:
    short = clipped(text)
    assert text.startswith(short)
    assert len(short.encode()) <= OSC52_MOST
    assert short == text or short.endswith("\n") or "\n" not in short
