"""Every state at every size, as an operator reads it. ISOBENCH_UPDATE_SCREENS=1 renews them: look at each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes import STATES, Scene, scene_at, screen_text, watched

SCREENS = Path(__file__).parent / "snapshots" / "screens"
SIZES = ((80, 24), (120, 40), (160, 48))


@pytest.fixture(params=list(STATES))
def scene(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with scene_at(tmp_path) as made:
        STATES[request.param](made)
        yield made
    monkeypatch.undo()
    time.tzset()


async def test_every_state_at_every_size(scene: Scene, request: pytest.FixtureRequest) -> None:
    state = request.node.callspec.params["scene"]
    wrong = []
    for width, height in SIZES:
        async with watched(scene, (width, height), tab="events") as (app, _):
            seen = screen_text(app) + "\n"
        lines = seen.splitlines()
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        path = SCREENS / f"{state}-{width}x{height}.txt"
        if os.environ.get("ISOBENCH_UPDATE_SCREENS"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(seen)
        elif not path.exists() or path.read_text() != seen:
            wrong.append(f"{path.name} differs; now:\n{seen}")
    assert not wrong, "\n".join(wrong)
