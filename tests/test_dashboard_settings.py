"""The dashboard's settings: who wins, what is refused, and what `isobench config` says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import Bench

from isobench_tui.tui import settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file that does not exist yet, and an environment without settings."""
    for name in settings.NAMES:
        monkeypatch.delenv(settings.PREFIX + name.upper(), raising=False)
    path = tmp_path / "config.toml"
    monkeypatch.setenv("ISOBENCH_CONFIG", str(path))
    return path


def test_flags_win_over_the_environment_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[dashboard]\ntheme = "nord"\nfps = 7\nmouse = false\nkeymap = { "queue.skip" = "d" }\n')
    monkeypatch.setenv("ISOBENCH_TUI_FPS", "9")
    monkeypatch.setenv("ISOBENCH_TUI_THEME", "gruvbox")
    found = settings.load({"theme": "textual-light", "fps": None})
    assert (found.settings.theme, found.settings.fps, found.settings.mouse) == ("textual-light", 9, False)
    sources = {name: found.sources[name] for name in ("theme", "fps", "mouse", "keymap", "tab")}
    assert sources == {"theme": "flag", "fps": "environment", "mouse": "file", "keymap": "file", "tab": "default"}


def test_nothing_set_is_the_defaults(file: Path) -> None:
    found = settings.load()
    assert found.settings == settings.Settings()
    assert set(found.sources.values()) == {"default"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dashboard]\nfps = 0\n", "dashboard.fps = 0: it can be 1 to 60"),
        ('[dashboard]\ncolour = "red"\n', "unknown key dashboard.colour; known are theme"),
        ('[dashboard]\ntheme = "nope"\n', "no such theme; there are"),
        ('[dashboard.keymap]\n"queue.fly" = "f"\n', "names no action 'queue.fly'"),
        ("[tui]\n", "unknown table or key 'tui'"),
        ("dashboard = 1\n", "must be a table"),
        ("[dashboard\n", "line 1"),
    ],
)
def test_errors_name_the_file_the_key_and_the_fix(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_command_shows_which_source_won(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = tmp_path / "config" / "isobench" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[dashboard]\nfps = 7\n")
    shown = bench.cli("config", "--show", env={"ISOBENCH_TUI_ALERTS": "osc9"}).stdout
    lines = {line.split(" = ")[0]: line for line in shown.splitlines() if " = " in line}
    assert lines["fps"].split() == ["fps", "=", "7", "#", "file"]
    assert lines["alerts"].split() == ["alerts", "=", '"osc9"', "#", "environment"]
    assert lines["theme"].endswith("# default")
    assert bench.cli("config", "--path").stdout.strip() == str(path)
    found = json.loads(bench.cli("config", "--json").stdout)
    assert found["settings"]["fps"] == {"value": 7, "source": "file"}
    path.write_text("[dashboard]\nfps = 700\n")
    assert "dashboard.fps = 700" in bench.refused("config")
