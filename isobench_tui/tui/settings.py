"""The dashboard's settings: `config.toml` in the user's config folder, the environment, flags - and which one won."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

from isobench_tui.store.workspace import WorkspaceError

PREFIX = "ISOBENCH_TUI_"
MOST_FPS = 60
SourceName = Literal["default", "file", "environment", "flag"]


def _says(default: Any, words: str) -> Any:
    """A field with its default and the words that document it."""
    return field(default=default, metadata={"says": words})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may set under `[dashboard]`. Each field says what it does; the docs are made from these words.

    No pydantic model: where nothing is set, the dashboard starts without importing what checks it.
    """

    theme: str = _says(
        "textual-dark",
        "Colours, by the name of a theme of Textual: `textual-dark`, `textual-light`, `nord`, `gruvbox`, "
        "`ansi-dark` and `ansi-light` (the terminal's own 16 colours), … `$NO_COLOR` turns all colours off.",
    )
    fps: int | None = _says(None, "Frames a second at most, 1 to 60. Unset: 5 over SSH, 10 elsewhere.")
    mouse: bool = _says(True, "Whether the mouse works; without it the terminal's own selection does.")
    alerts: Literal["bell", "osc9", "both", "none"] = _says(
        "bell",
        "How the terminal is told that a campaign paused itself, failed or ended: its bell, a desktop "
        "notice (OSC 9), both, or neither.",
    )
    tab: Literal["log", "leaderboard", "compare", "diagnosis", "events"] = _says(
        "log", "The tab that is open at first."
    )
    grouped: bool = _says(True, "Whether the queue has a heading for each task.")
    export_dir: str | None = _says(None, "Folder for exports and copies. Unset: `exports` in the workspace.")
    keymap: dict[str, str] = field(
        default_factory=dict,
        metadata={"says": 'Other keys, by the id of an action in the docs: `"queue.skip" = "d"`; several: `"d,f5"`.'},
    )


NAMES = tuple(one.name for one in fields(Settings))


class SettingsError(WorkspaceError):
    """A setting cannot be used; the message names the file or variable, the key, and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Found:
    """Settings with the source that decided each of them."""

    settings: Settings
    sources: Mapping[str, SourceName]
    path: Path


def config_path() -> Path:
    """`config.toml` in the user's config folder (XDG), or the file that $ISOBENCH_CONFIG names."""
    named = os.environ.get("ISOBENCH_CONFIG")
    return Path(named) if named else Path(platformdirs.user_config_dir("isobench")) / "config.toml"


def load(flags: Mapping[str, object] | None = None) -> Found:
    """Flags win over the environment, it over the file, it over the defaults. Raises SettingsError."""
    path = config_path()
    settings = Settings()
    sources: dict[str, SourceName] = dict.fromkeys(NAMES, "default")
    layers: tuple[tuple[SourceName, Mapping[str, object], str], ...] = (
        ("file", _file(path), str(path)),
        ("environment", _environment(), "the environment"),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}, "the command line"),
    )
    for source, layer, where in layers:
        for name, value in layer.items():
            settings = replace(settings, **{name: _checked(name, value, where)})
            sources[name] = source
    return Found(settings, sources, path)


def _file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    unknown = sorted(set(found) - {"dashboard"})
    if unknown:
        raise SettingsError(f"{path}: unknown table or key {unknown[0]!r}; the dashboard's are under [dashboard]")
    table = found.get("dashboard", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: dashboard must be a table: [dashboard]")
    return table


def _environment() -> dict[str, object]:
    found: dict[str, object] = {}
    for name in NAMES:
        text = os.environ.get(PREFIX + name.upper())
        if text is not None and name != "keymap":
            found[name] = text
    return found


def _checked(name: str, value: object, where: str) -> Any:
    """What the setting becomes. Raises SettingsError."""
    if name not in NAMES:
        raise SettingsError(f"{where}: unknown key dashboard.{name}; known are {', '.join(NAMES)}")
    from pydantic import TypeAdapter, ValidationError

    try:
        validated = TypeAdapter(Settings).validate_python({name: value})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("dashboard", *first["loc"]))
        raise SettingsError(f"{where}: {key} = {value!r}: {first['msg']}") from error
    if name == "fps" and validated.fps is not None and not 1 <= validated.fps <= MOST_FPS:
        raise SettingsError(f"{where}: dashboard.fps = {value!r}: it can be 1 to {MOST_FPS}")
    if name == "theme":
        _check_theme(validated.theme, where)
    if name == "keymap":
        _check_keymap(validated.keymap, where)
    return getattr(validated, name)


def _check_theme(theme: str, where: str) -> None:
    from textual.theme import BUILTIN_THEMES

    if theme not in BUILTIN_THEMES:
        known = ", ".join(sorted(BUILTIN_THEMES))
        raise SettingsError(f"{where}: dashboard.theme = {theme!r}: no such theme; there are {known}")


def _check_keymap(keymap: Mapping[str, str], where: str) -> None:
    from isobench_tui.tui.actions import tables  # loads textual

    known = {action.id for _, table in tables() for action in table if action.key}
    for key in keymap:
        if key not in known:
            raise SettingsError(f"{where}: dashboard.keymap names no action {key!r}; the help (?) lists their ids")


def as_json(found: Found) -> dict[str, Any]:
    """For `isobench config --show --json`: key -> value and source."""
    values = asdict(found.settings)
    return {name: {"value": values[name], "source": found.sources[name]} for name in values}
