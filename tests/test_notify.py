"""Notifications: who is told what, once, with no dashboard open, and whatever becomes of the one that is told."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import A, B, Bench, bench_at, task, until

TELL = """import json, os, sys
notice = json.loads(sys.stdin.readline())
assert sys.stdin.read() == ""
with open(os.path.join(os.path.dirname(__file__), "told.jsonl"), "a") as file:
    file.write(json.dumps(notice) + "\\n")
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        (made.root / "tell.py").write_text(TELL)
        yield made


def notifying(bench: Bench, path: Path, *command: str, urls: tuple[str, ...] = ()) -> Path:
    given = list(command) or ([] if urls else [sys.executable, str(bench.root / "tell.py")])
    path.write_text(path.read_text() + f"[notify]\ncommand = {json.dumps(given)}\nurls = {json.dumps(list(urls))}\n")
    return path


def told(bench: Bench) -> list[dict[str, Any]]:
    path = bench.root / "told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_failures_and_the_end_are_told_once(bench: Bench) -> None:
    file = notifying(bench, bench.write(task(A), task(B, FAKE="fail"), limits="max_attempts = 1"))
    bench.cli("run", file, code=1)
    bench.wait_idle()
    failed, ended = told(bench)
    (attempt,) = bench.rows("SELECT id FROM attempts WHERE outcome = 'failed'")
    assert (failed["kind"], failed["campaign"], failed["data"]) == ("failed", "small", {"attempts": [attempt["id"]]})
    assert "bbbbbbbb:baseline#1 failed (client_failed)" in failed["text"]
    assert (ended["kind"], ended["title"], ended["text"]) == (
        "ended",
        "small has ended",
        "2 jobs: 1 valid, 1 failed",
    )
    assert (ended["data"]["valid"], ended["data"]["failed"], ended["data"]["left"]) == (1, 1, 0)
    assert ended["workspace"] == str(bench.workspace.root)
    assert ended["schema_version"] == 1
    bench.cli("retry", "aaaa")
    bench.cli("run", code=1)
    bench.wait_idle()
    assert [one["kind"] for one in told(bench)] == ["failed", "ended", "ended"], "a campaign that went on ends again"


def test_the_queue_that_pauses_itself(bench: Bench) -> None:
    many = [task(digit * 40, FAKE="no-metrics") for digit in "abcd"]
    bench.cli("run", notifying(bench, bench.write(*many, limits="max_attempts = 1")), "--detach")
    until(lambda: any(one["kind"] == "paused" for one in told(bench)), f"the pause is told\n{bench.log()}")
    (paused,) = [one for one in told(bench) if one["kind"] == "paused"]
    assert "3 different tasks running failed with it" in paused["text"]
    bench.cli("shutdown", "--wait")


def test_a_dead_runner_s_news_is_told_by_the_next_one(bench: Bench) -> None:
    bench.submit(notifying(bench, bench.write(task(A, FAKE="fail"), task(B), limits="max_attempts = 1")))
    assert bench.runner("collected:kill").wait(timeout=60) == -9
    before = [one["kind"] for one in told(bench)]
    assert before == []
    bench.cli("run", code=1)
    bench.wait_idle()
    assert [one["kind"] for one in told(bench)] == ["failed", "ended"]


@pytest.mark.parametrize("how", ["missing", "fails", "hangs"])
def test_who_cannot_be_told_holds_nothing_up(bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = bench.root / "broken.py"
    script.write_text({"fails": "import sys; sys.exit('no network')", "hangs": "while True: pass"}.get(how, ""))
    command = [str(bench.root / "none")] if how == "missing" else [sys.executable, str(script)]
    limits = bench.root / "sitecustomize.py"  # the real limits would make this test last minutes
    limits.write_text(
        "import sys\nif 'isobench_tui.runner' in ' '.join(sys.orig_argv):\n"
        "    import isobench_tui.report.notify as n, isobench_tui.runner.notices as r\n"
        "    n.by_command.__defaults__, r.AGAIN_S = (1.0,), (0.1,)\n"
    )
    env = {"PYTHONPATH": str(bench.root)}
    file = notifying(bench, bench.write(task(A)), *command)
    assert bench.cli("run", file, env=env).stdout.endswith("1 job: 1 valid\n")
    bench.wait_idle()
    (event,) = bench.rows("SELECT text FROM events WHERE kind = 'notify'")
    why = {"missing": "No such file", "fails": "exit code 1: no network", "hangs": "not done within 1 s, killed"}[how]
    assert event["text"].startswith("nobody was told that 'small has ended': ")
    assert why in event["text"]


def test_apprise_gets_the_urls_from_stored_values(bench: Bench) -> None:
    pytest.importorskip("apprise")
    got: list[tuple[str, bytes]] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"json://127.0.0.1:{server.server_port}/secret-channel"
        file = notifying(bench, bench.write(task(A)), urls=("TEAM_CHANNEL",))
        assert "TEAM_CHANNEL, which the environment lacks" in bench.refused("run", file)
        bench.cli("run", file, env={"TEAM_CHANNEL": url, "no_proxy": "*"})
        bench.wait_idle()
        server.shutdown()
    ((path, body),) = got
    assert path.startswith("/secret-channel")
    assert json.loads(body)["title"] == "small has ended"
    with bench.store() as connection:
        assert not [line for line in connection.iterdump() if "secret-channel" in line]
    stored = Path(bench.env["XDG_CONFIG_HOME"]) / "isobench" / "secrets" / "TEAM_CHANNEL"
    assert stored.stat().st_mode & 0o777 == 0o600
