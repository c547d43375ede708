"""One hostile campaign through every door: what its client printed reaches no terminal and no spreadsheet."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task
from fuzz import OBEYED
from terminal import Terminal, terminal
from test_log_pane import FORBIDDEN

SAID = (
    "\x1b]0;EVIL-TITLE\x07\x1b]52;c;RVZJTA==\x07\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\ 1one\n"
    "\x1b[2J\x1b[H\x1b[?1049l\x1b[6n\x1b[>q\x1bP+q544e\x1b\\ 2two\n"
    "\u202e\u2066\u061c\u200f 3three \u009b2J\u009d0;EVIL-TITLE\u009c\x1bc\x1b(0\x0e\x0f\x08\x7f\n"
    "=cmd|' /C calc'!A0 4four | [x](javascript:alert(1)) <img src=x onerror=alert(1)> `id` **5five**\n"
    "Traceback (most recent call last):\n"
    '  File "benchmarks/benchmark_throughput.py", line 1, in <module>\n'
    "torch.OutOfMemoryError: CUDA out of memory. =HYPERLINK(1) <script>6six</script> | \x1b[31m[x](http://plain/)"
    "\x1b]52;c;QQ==\x07\u202e\n"
)
OBEYED_IN_IT = (
    "\x1b]0;EVIL-TITLE\x07", "\x1b]52;c;RVZJTA==\x07", "\x1b]8;;http://evil/\x1b\\", "\x1b]8;;\x1b\\", "\x1b[2J",
    "\x1b[H", "\x1b[?1049l", "\x1b[6n", "\x1b[>q", "\x1bP+q544e\x1b\\", "\u202e", "\u2066", "\u061c", "\u200f",
    "\u009b2J", "\u009d0;EVIL-TITLE\u009c", "\x1bc", "\x1b(0", "\x0e", "\x0f", "\x08", "\x7f", "\x1b]52;c;QQ==\x07",
)  # fmt: skip
AGENT = "=1+cmd|<b>$(id);`id`"
DOORS = (
    ("status",),
    ("status", "--json"),
    ("logs", "aaaa:baseline"),
    ("why", "aaaa"),
    ("compare", "aaaa"),
    ("leaderboard",),
    *(
        ("export", what, "--format", form)
        for what in ("results", "leaderboard", "events")
        for form in ("md", "csv", "json")
    ),
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A good job and a failing one of the same words, a patch with an agent of a hostile name, all of them run."""
    root = tmp_path_factory.mktemp("hostile $(id) `id`;'")
    with bench_at(root) as bench:
        said = json.dumps(SAID)
        tasks = [task(A, more=f"env.SAY = {said}"), task(B, more=f'env.SAY = {said}\nenv.FAKE = "fail"')]
        bench.cli("run", bench.write(*tasks, limits="max_attempts = 1"), code=None)
        bench.wait_idle()
        yield bench


def texts(value: object) -> Iterator[str]:
    """Every text of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in texts(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in texts(part))


@pytest.mark.parametrize("argv", DOORS, ids=" ".join)
def test_no_command_and_no_export_obeys_it(hostile: Bench, argv: tuple[str, ...]) -> None:
    said = hostile.cli(*argv, code=None).stdout
    assert said.strip()
    assert not (OBEYED - set("\r\n")) & set(said)
    if "json" in argv[-1]:
        for text in texts(json.loads(said)):
            assert not (OBEYED - {"\n"}) & set(text), text
    if argv[-1] == "csv":
        for cell in (cell for row in csv.reader(io.StringIO(said, newline="")) for cell in row):
            assert not cell.lstrip().startswith(("=", "+", "@")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-[\d.e-]+", cell), cell
    if argv[-1] == "md":
        assert "<script" not in said
        assert "<img" not in said
        assert not re.search(r"(?<!\\)\[x\\?\]\(", said)


def test_what_it_said_is_there_all_the_same(hostile: Bench) -> None:
    logs = hostile.cli("logs", "aaaa").stdout
    assert all(word in logs for word in ("1one", "2two", "3three", "4four", "5five", "6six"))
    (row,) = [row for row in json.loads(hostile.cli("export", "--json").stdout) if row.get("commit") == B]
    assert row["class"] == "gpu_oom_capacity"
    assert "6six" in row["evidence_text"]


def test_the_dashboard_on_a_real_terminal(hostile: Bench) -> None:
    with terminal(hostile.env, "attach", columns=120, rows=40) as seen:
        seen.shows("aaaaaaaa", "bbbbbbbb")
        seen.insist("\x1b[B1", "1one", "2two", "3three", "4four")  # the last job, its log
        seen.insist("4", "whose fault", "6six")
        seen.insist("5", "the runner ends")
        seen.insist("2", "higher is better")
        seen.press("3")
        seen.until(lambda: "higher is better" not in seen.text, "the next tab")
        seen.press("q")
        seen.ends()
        seen.assert_restored()
        assert_unharmed(seen)


def test_the_screen_is_that_of_a_log_without_control_sequences(hostile: Bench, tmp_path: Path) -> None:
    """Cell for cell, with colours; and title, modes and clipboard are as with that log."""
    copy = tmp_path / "copy"
    hostile.cli("snapshot", copy)
    (log,) = copy.glob(f"runs/{attempt_of(hostile, A)}/client-00.log")
    said, twin = log.read_bytes(), harmless(SAID)
    assert SAID.encode() in said
    screens = []
    for data in (said, said.replace(SAID.encode(), twin)):
        log.write_bytes(data)
        with terminal({**hostile.env, "ISOBENCH_WORKSPACE": str(copy)}, "attach", columns=200) as seen:
            seen.shows("aaaaaaaa:baseline", "Total num output tokens")
            seen.insist("1", "e Errors")  # a key of the log
            seen.press("z")
            seen.until(functools.partial(alone, seen), "the log alone")
            seen.shows("1one", "2two", "3three", "4four", "5five", "6six")
            modes = set(re.findall(rb"\x1b\[\?[0-9;]+[hl]", bytes(seen.raw)))
            screens.append((seen.lines, seen.cells, seen.title, modes))
            assert_unharmed(seen)
    (text, cells, *rest), (plain_text, plain_cells, *plain_rest) = screens
    assert text == plain_text
    differ = [
        (x, y, one, other)
        for y, rows in enumerate(zip(cells, plain_cells, strict=True))
        for x, (one, other) in enumerate(zip(*rows, strict=True))
        if one != other
    ]
    assert differ == []
    assert rest == plain_rest


def alone(seen: Terminal) -> bool:
    return "Queue" not in seen.text


def attempt_of(bench: Bench, commit: str) -> str:
    query = "SELECT a.id FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id"
    (row,) = bench.rows(f"{query} WHERE t.commit_sha = ?", commit)
    return str(row["id"])


def harmless(text: str) -> bytes:
    """The same without what a terminal obeys but for colours; lines as long in bytes, so that times are equal."""
    lines = []
    for line in text.split("\n"):
        kept = line
        for obeyed in OBEYED_IN_IT:
            kept = kept.replace(obeyed, "")
        less = len(line.encode()) - len(kept.encode())
        lines.append(kept.encode() + b"\x1b[0m".ljust(less)[:less])
    return b"\n".join(lines)


def assert_unharmed(seen: Terminal) -> None:
    """Nothing of what the log said was obeyed: not its title, not its clipboard, not its modes."""
    body = re.sub(rb"\x1b\]22;[a-z-]*\x07", b"", bytes(seen.raw))  # Textual's own: the shape of the mouse pointer
    body = body.partition(b"\x1b[?1049l")[0]
    for bad in FORBIDDEN:
        found = re.search(bad, body)
        assert found is None, (bad, body[max(0, found.start() - 60) : found.end() + 60])
    assert "EVIL" not in seen.title


def test_names_that_a_shell_or_a_spreadsheet_would_run_are_words(hostile: Bench) -> None:
    """The workspace's own path is one; an agent may be called like this."""
    assert "$(id)" in str(hostile.workspace.root)
    (hostile.root / "p.diff").write_text("")
    file = hostile.write(
        task(A, more=f"patches.{json.dumps(AGENT)} = 'p.diff'"),
        name="=x|<b>",
        campaign="arms = ['baseline', 'agent']",
    )
    done = hostile.cli("plan", file, code=None)
    assert not Path("id").exists()
    assert not (OBEYED - {"\n"}) & set(done.stdout + done.stderr)
