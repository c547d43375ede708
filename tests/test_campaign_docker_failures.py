"""Six jobs that fail in six ways in real containers, each with the right diagnosis; then a baseline comes late."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
from campaigns import DEMO, SERVE, A, B, C, Site, task

from isobench_tui.results.rules import rule

pytestmark = pytest.mark.docker

D, E, F = (digit * 40 for digit in "def")
ENGINE = "vllm/engine/async_llm_engine.py"
SLEEPS = "import time\ntime.sleep(600)\n"
HOGS = 'HOG = [b"x" * (1 << 20) for _ in range(2000)]\n'

ALONE = {
    "a:image": ("image_missing", "infra"),
    "b:old": ("patch_not_applied", "undetermined"),
    "c:bad": ("patch_crash", "undetermined"),
    "d:slow": ("server_timeout", "undetermined"),
    "e:hog": ("host_oom", "undetermined"),
    "f:good": ("client_failed", "undetermined"),
}
"""Class and blame while nothing is known of the unpatched tree."""
PROOFS = {
    "a:image": ("engine", "nowhere"),
    "b:old": ("events.jsonl", "vllm/core/scheduler.py"),
    "c:bad": ("server.log", "NameError: name 'BatchDetokenizer' is not defined"),
    "d:slow": ("events.jsonl", "server"),
    "e:hog": ("inspect.json", "OOMKilled"),
    "f:good": ("client-00.log", "ValueError: --request-rate"),
}
"""File of the evidence, and words of its line."""


def appended(site: Site, name: str, code: str) -> str:
    """A patch that appends lines to a file which only the server imports; its path."""
    old = (DEMO / "tree" / ENGINE).read_text().splitlines(keepends=True)
    diff = difflib.unified_diff(old, [*old, *code.splitlines(keepends=True)], f"a/{ENGINE}", f"b/{ENGINE}")
    path: Path = site.root / f"{name}.diff"
    path.write_text("".join(diff))
    return str(path)


def six(site: Site, *arms: str) -> Path:
    missing = f'images.baseline = "{site.images.ref("nowhere")}"'
    return site.campaign(
        task(A, patches={"image": "faster-block-table.diff"}, more=missing),
        task(B, patches={"old": "does-not-apply.diff"}),
        task(C, SERVE, patches={"bad": "breaks-server.diff"}),
        task(D, SERVE, patches={"slow": appended(site, "slow", SLEEPS)}),
        task(E, SERVE, patches={"hog": appended(site, "hog", HOGS)}),
        task(F, f"{SERVE} --request-rate 0", patches={"good": "faster-batch-output.diff"}),
        arms=arms,
        timeouts={"server": "8s"},
        limits="max_attempts = 2",
        memory="256m",
    )


def diagnoses(site: Site) -> dict[str, tuple[str, str]]:
    """Class and blame of every job by the export, once `why` was seen to say the same with the same proof."""
    found = {}
    for job, row in site.export().items():
        if row["outcome"] == "success":
            continue
        found[job] = row["class"], row["blame"]
        commit, side = job.split(":")
        (story,) = json.loads(site.isobench("why", f"{commit * 8}:{side}", "--json").stdout)
        assert (story["class"], story["blame"]) == found[job]
        last = story["attempts"][-1]["diagnosis"]
        proof = last["evidence"]
        assert (last["class"], proof["file"], proof["line"], proof["text"]) == (
            row["class"], row["evidence_file"], row["evidence_line"], row["evidence_text"],
        )  # fmt: skip
        assert story["remedy"].endswith(".")
    return found


def test_six_ways_to_fail(site: Site) -> None:
    site.isobench("run", six(site, "agent"), code=1)
    site.idle()
    assert diagnoses(site) == ALONE
    for job, row in site.export().items():
        file, words = PROOFS[job]
        assert row["evidence_file"] == file
        assert words in row["evidence_text"]
        assert row["evidence_line"] > 0 or not file.endswith(".log")
    told = site.isobench("why", "cccccccc:bad").stdout
    assert "BatchDetokenizer" in told
    assert "patch_crash" in told

    # The unpatched tree comes late: where it runs, only the patch is left; where it fails alike, it is not the patch.
    site.isobench("run", six(site, "baseline", "agent"), code=1)
    site.idle()
    assert {job: end for job, end in site.outcomes().items() if job.endswith(":baseline")} == {
        "a:baseline": ("failed", "image_missing"),
        "b:baseline": ("success", None),
        "c:baseline": ("success", None),
        "d:baseline": ("success", None),
        "e:baseline": ("success", None),
        "f:baseline": ("failed", "client_failed"),
    }
    client = rule("client_failed")
    assert client is not None
    judged = {job: found for job, found in diagnoses(site).items() if not job.endswith(":baseline")}
    assert judged == {**ALONE, "c:bad": ("patch_crash", "agent"), "f:good": ("client_failed", client.blame)}
    tries = [row for row in site.attempts() if row["agent"] == "bad"]
    assert [(row["failure"], row["blame"]) for row in tries] == [("patch_crash", "agent")] * 2
    assert any("runs once more to confirm patch_crash" in text for text in site.story())
    assert "the baseline succeeded" in site.isobench("why", "cccccccc:bad").stdout
    assert "so it is not this patch" in site.isobench("why", "ffffffff:good").stdout
    site.assert_nothing_left()
