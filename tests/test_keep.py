"""Which images the keep policy gives up, and in which order: only ours, and only those that it does not protect."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage
from isobench_tui.runner import keep
from isobench_tui.runner.keep import Held, Keep
from isobench_tui.store import attempts, db
from isobench_tui.store.clock import now
from isobench_tui.store.workspace import Workspace


@pytest.fixture
def store(tmp_path: Path) -> sqlite3.Connection:
    """Images old, done, next, later, last, running (ours) and theirs (an operator's); jobs wait in the order of their
    names here, the last one is held."""
    connection = db.create_store(Workspace(tmp_path))
    at = now()
    connection.execute(
        "INSERT INTO campaigns (id, name, spec_path, spec_text, settings, submitted_at, updated_at) "
        "VALUES (1, 'c', '', '', '{}', ?, ?)",
        (at, at),
    )
    connection.execute(
        "INSERT INTO tasks (id, campaign_id, commit_sha, parent_sha, model, mode, fingerprint, workload) "
        "VALUES (1, 1, 'a', 'b', 'm', 'serving', 'f', '{}')"
    )
    jobs = [("theirs", "done"), ("done", "done"), ("last", "held"), ("running", "running"), ("next", "queued")]
    for position, (image, state) in enumerate([*jobs, ("later", "queued")]):
        connection.execute(
            "INSERT INTO jobs (id, identity, campaign_id, task_id, arm, repeat, position, state, outcome, image, "
            "spec, created_at) VALUES (?, ?, 1, 1, 'baseline', 0, ?, ?, ?, ?, '{}', ?)",
            (image, image, position, state, "success" if state == "done" else None, image, at),
        )
    connection.execute(
        "INSERT INTO attempts (id, job_id, number, lane, image_ref, started_at) "
        "VALUES ('r-1', 'running', 1, 0, 'x', ?)",
        (at,),
    )
    for age, image in enumerate(("old", "done", "next", "later", "last", "running", "theirs")):
        connection.execute(
            "INSERT INTO images (ref, pinned, brought_by, seen_at) VALUES (?, ?, ?, ?)",
            (image, image, None if image == "theirs" else "r-1", f"2026-01-0{age + 1}T00:00:00.000Z"),
        )
    return connection


def names(held: list[Held]) -> list[str]:
    return [one.image.ref for one in held]


@pytest.mark.parametrize(
    ("policy", "goes", "under_pressure"),
    [
        ("all", [], []),
        ("shared", ["old", "done"], ["old", "done", "last", "later", "next"]),
        ("next", ["old", "done", "last", "later"], ["old", "done", "last", "later", "next"]),
        ("none", ["old", "done", "last", "later", "next"], ["old", "done", "last", "later", "next"]),
    ],
)
def test_what_a_policy_gives_up(
    store: sqlite3.Connection, policy: Keep, goes: list[str], under_pressure: list[str]
) -> None:
    """Idle images first, the oldest of them first; then the one whose turn is the farthest. A used one never."""
    held = keep.held(store)
    assert {one.image.ref: one.use for one in held} == {
        "old": "idle",
        "done": "idle",
        "next": "next",
        "later": "queued",
        "last": "queued",
        "running": "used",
    }
    assert names(keep.leaving(held, policy)) == goes
    assert names(keep.leaving(held, policy, pressed=True)) == under_pressure


def test_an_image_that_was_removed_is_not_held(store: sqlite3.Connection) -> None:
    store.execute("UPDATE images SET removed_at = ? WHERE ref = 'old'", (now(),))
    assert names(keep.leaving(keep.held(store), "shared")) == ["done"]


def layer(name: str, size: int) -> ImageLayer:
    return ImageLayer(f"sha256:{name}", size // 2, "tar+gzip", f"sha256:d{name}", size)


BASE = layer("base", 100)


def test_layers_are_kept_with_their_image(store: sqlite3.Connection) -> None:
    layers = (BASE, ImageLayer("sha256:top", 5, "tar+zstd", "sha256:dtop"))
    seen = ("app:1", "app@sha256:0", "sha256:0")
    attempts.seen_image(store, *seen, "id", 130, "r-1", keep.layers_text(layers))
    attempts.seen_image(store, *seen, "id", 130, None)  # present now: nobody asked the registry
    (found,) = [one for one in keep.held(store) if one.image.ref == "app:1"]
    assert found.image == ImageInfo(*seen, "id", True, 130, layers)
    assert keep.ratio_of(store) == 130 / 55
    attempts.seen_image(store, *seen, "another id", 130, None)
    assert [one.image.layers for one in keep.held(store) if one.image.ref == "app:1"] == [()]


def test_what_comes_free_is_what_no_image_that_stays_shares() -> None:
    overlay = Storage("overlay2", Path("/d"))

    def held(name: str, *layers: ImageLayer, size: int | None = None) -> Held:
        return Held(ImageInfo(name, name, None, name, True, size, layers), "idle", "")

    one, two, other = held("one", BASE, layer("1", 10)), held("two", BASE, layer("2", 20)), held("other", size=7)
    assert keep.comes_free(overlay, [one], [one, two, other], 2.0) == 10
    assert keep.comes_free(overlay, [one, two], [one, two, other], 2.0) == 130
    assert keep.comes_free(overlay, [one, other], [one, two, other], 2.0) == 17
    assert keep.comes_free(overlay, [], [one], 2.0) == 0
