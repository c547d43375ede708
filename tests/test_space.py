"""Needs against file systems: what lies on one and the same is added up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import disk_of
from disks import MB, SmallDisk

from isobench_tui.engine.driver import is_full
from isobench_tui.runner.space import Balance, Need, Volume, balances, volume, volumes, wants


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with disk_of(32 * MB) as made:
        yield made


IMAGE, LOGS, COPY = Need("image", "/docker", 900), Need("logs", "/ws/runs", 50), Need("container", "/docker", 300)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (
            {"/docker": Volume(1, 1000, 5000), "/ws/runs": Volume(2, 40, 5000)},
            [("/docker", 1200, 200), ("/ws/runs", 50, 10)],
        ),
        ({"/docker": Volume(1, 1250, 5000), "/ws/runs": Volume(1, 1250, 5000)}, [("/docker", 1250, 0)]),
        ({"/docker": Volume(1, 1249, 5000), "/ws/runs": Volume(1, 1249, 5000)}, [("/docker", 1250, 1)]),
    ],
)
def test_what_is_missing_where(places: dict[str, Volume], expected: list[tuple[str, int, int]]) -> None:
    found = balances([IMAGE, LOGS, COPY], places)
    assert [(one.path, one.needed, one.missing) for one in found] == expected
    assert wants(found) == tuple((path, needed) for path, needed, _ in expected)


def test_a_balance_tells_what_for() -> None:
    found = Balance("/docker", (Need("image", "/docker", 3 << 30), Need("downloads", "/docker", 0)), 100 * MB, 1)
    assert str(found) == "3.0 GiB needed in /docker (image 3.0 GiB), 100 MiB free"


def test_a_folder_that_does_not_exist_yet_is_where_it_will_be(disk: SmallDisk, tmp_path: Path) -> None:
    inner = disk.path / "not" / "yet"
    found = volumes([str(inner), str(disk.path), str(tmp_path)])
    assert found[str(inner)] == found[str(disk.path)] == volume(str(inner))
    assert found[str(inner)].device == disk.path.stat().st_dev != found[str(tmp_path)].device
    assert found[str(inner)].total < 32 * MB
    disk.fill()
    assert volume(str(inner)).free == 0


@pytest.mark.parametrize("size", [32 * MB, 2048 * MB])
def test_a_disk_is_full_when_nothing_more_can_be_written(size: int, tmp_path: Path) -> None:
    """Also for root, and where ext4 keeps megabytes for itself that it calls free."""
    with disk_of(size) as disk, (disk.path / "log").open("ab", buffering=0) as log:
        log.write(b"x" * 4096)
        assert not is_full(str(disk.path))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            log.write(b"x")
        assert is_full(str(disk.path))
        assert not is_full(str(tmp_path))
        assert not is_full(str(disk.path / "missing")), "what is not there cannot be looked at"
