"""The story that `why` tells, of campaigns that really ran."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import SERVING, A, B, Bench, C, D, bench_at, task


def crashing(tree: Path) -> str:
    """A patch of the code that client and server share, with a name in it that does not exist."""
    name = "vllm/fake.py"
    before = (tree / name).read_text().splitlines(keepends=True)
    after = [line.replace("os.environ.get(", "undefined_helper(") if "FAKE =" in line else line for line in before]
    return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Four tasks: an agent's crash, a client that fails in both arms, a crash of the server, an empty patch."""
    with bench_at(tmp_path_factory.mktemp("why")) as bench:
        (bench.root / "crashes.diff").write_text(crashing(bench.root / "tree"))
        tasks = (
            task(A, patch="crashes.diff"),
            task(B, patch="faster.diff", FAKE="fail"),
            task(C, SERVING, FAKE="server-crash"),
            task(D, patch="empty.diff"),
        )
        path = bench.write(*tasks, campaign='arms = ["baseline", "agent"]', limits="same_failure = 9")
        bench.cli("run", path, code=1)
        bench.wait_idle()
        yield bench


def story(bench: Bench, name: str) -> dict[str, Any]:
    (found,) = json.loads(bench.cli("why", bench.id(name), "--json").stdout)
    assert found["name"][0] == name[0]
    return dict(found)


def test_an_agents_crash_is_confirmed_before_it_is_blamed(ran: Bench) -> None:
    found = story(ran, "a:one#1")
    assert (found["class"], found["blame"]) == ("patch_crash", "agent")
    assert [one["diagnosis"]["blame"] for one in found["attempts"]] == ["agent", "agent"]
    last = found["attempts"][-1]["diagnosis"]
    assert last["frame"] == "vllm/fake.py:4"
    assert "undefined_helper" in last["evidence"]["text"]
    text = ran.cli("why", "aaaa:one").stdout
    for words in (
        "what ran:       the baseline with the patch of one, throughput of m in ",
        "attempt 2 failed after ",
        ": patch_crash (exit code ",
        "client-00.log:",
        "NameError: name 'undefined_helper' is not defined",
        "whose fault:    agent: the baseline succeeded, the traceback leads to vllm/fake.py:4",
        "and 2 attempts failed so",
        "runs once more to confirm patch_crash",
        "the policy for patch_crash: no retry",
        "what to do:     Read the traceback",
    ):
        assert words in text, text


def test_the_line_that_proves_it_stands_in_its_context(ran: Bench) -> None:
    evidence = story(ran, "a:one#1")["attempts"][-1]["diagnosis"]["evidence"]
    around = {one["line"]: one["text"] for one in evidence["context"]}
    assert around[evidence["line"]] == evidence["text"]
    assert any('vllm/fake.py", line 4' in text for text in around.values()), around
    marked = [line for line in ran.cli("why", "aaaa:one").stdout.splitlines() if line.strip().startswith("> ")]
    assert len(marked) == 1
    assert evidence["text"] in marked[0]


def test_what_fails_in_the_baseline_too_is_not_the_agents(ran: Bench) -> None:
    for name in ("b:baseline#1", "b:one#1"):
        found = story(ran, name)
        assert (found["class"], found["blame"], len(found["attempts"])) == ("client_failed", "undetermined", 2)
    text = ran.cli("why", "bbbb:one").stdout
    assert "the baseline arm of the same commit failed with it too" in text
    assert "RuntimeError: broken on purpose" in text
    assert "the policy for client_failed: at most 2 attempts; 2 of 2 spent" in text
    assert "retry after client_failed" in text


def test_a_server_that_does_not_start(ran: Bench) -> None:
    found = story(ran, "c:baseline#1")
    assert found["class"] == "server_crash"
    evidence = found["attempts"][-1]["diagnosis"]["evidence"]
    assert (evidence["file"], evidence["text"]) == ("server.log", "ValueError: this model does not load")


def test_an_empty_patch(ran: Bench) -> None:
    text = ran.cli("why", "dddd:one").stdout
    assert "patch_empty" in text
    assert "an empty one measures the baseline" in text


def test_a_success_has_a_story_too(ran: Bench) -> None:
    text = ran.cli("why", "aaaa:baseline").stdout
    assert "it succeeded after " in text
    assert "tokens_per_second 64 tok/s" in text
    assert "what to do" not in text
    assert story(ran, "a:baseline#1")["class"] is None


def test_a_commit_names_several_jobs(ran: Bench) -> None:
    stories = json.loads(ran.cli("why", "aaaa", "--json").stdout)
    assert [one["arm"] for one in stories] == ["baseline", "agent"]
    assert ran.cli("why", "aaaa").stdout.count("what ran:") == 2


def test_export_names_the_same_class_and_blame(ran: Bench) -> None:
    text = ran.cli("export", "--json").stdout
    assert '"patch_crash"' in text
    assert '"agent"' in text


def test_what_has_not_run_and_what_is_unknown(tmp_path: Path) -> None:
    with bench_at(tmp_path) as bench:
        bench.submit(bench.write(task(A)))
        bench.command("hold", "aaaa")
        text = bench.cli("why", "aaaa").stdout
        assert "it has not run yet, it is held: held by" in text
        assert "no task has commit beef" in bench.refused("why", "beef", code=4)


def test_a_log_that_is_gone_or_hostile_still_has_its_line(ran: Bench, tmp_path: Path) -> None:
    found = story(ran, "c:baseline#1")["attempts"][-1]
    log = Path(found["run_dir"]) / "server.log"
    whole = log.read_bytes()
    try:
        log.unlink()
        log.symlink_to("/etc/hostname")
        text = ran.cli("why", "cccc").stdout
        assert f"server.log:{found['diagnosis']['evidence']['line']}: ValueError: this model does not load" in text
        log.unlink()
        log.write_bytes(b"x\n" * (found["diagnosis"]["evidence"]["line"] - 1) + b"\x1b]0;title\x07red \x1b[31m<b>\n")
        assert "\x1b" not in ran.cli("why", "cccc").stdout
    finally:
        log.unlink()
        log.write_bytes(whole)
