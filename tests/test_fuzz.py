"""The short form of `scripts/fuzz`: readers of other people's bytes keep their promises; who does not is seen."""

from __future__ import annotations

import pytest
from fuzz import Fuzz, Target

TURNS = 150


def test_a_short_run_breaks_nothing() -> None:
    fuzz = Fuzz(20260101)
    for _ in range(TURNS):
        fuzz.turn()
    assert not fuzz.crashes, "\n".join(f"{where}: {data!r}\n{trace}" for where, (data, trace) in fuzz.crashes.items())
    assert all(count > TURNS for count in fuzz.runs.values())


def inputs_of(seed: int) -> list[bytes]:
    seen: list[bytes] = []
    fuzz = Fuzz(seed)
    fuzz._targets = [Target("client", seen.append, [b"x"])]
    for _ in range(20):
        fuzz.turn()
    return seen


def test_the_same_seed_makes_the_same_inputs() -> None:
    seen = inputs_of(7)
    assert seen == inputs_of(7) != inputs_of(8)
    assert len(set(seen)) > 10


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_it_sees_a_reader_that_breaks(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> str:
        if len(data) > 3:
            if how == "raises":
                raise KeyError("x")
            while True:
                pass
        return ""

    monkeypatch.setattr("fuzz.CPU_S", 0.2)
    monkeypatch.setattr("fuzz.targets", lambda: [Target("one", read, [b"abcd"])])
    (where,) = Fuzz(1).crashes
    assert where.startswith("one: KeyError" if how == "raises" else "one: Stuck")
