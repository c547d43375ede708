"""The dashboard's settings: `config.toml` in the user's config folder, the environment, flags - and which one won."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from isobench_tui.store.workspace import WorkspaceError

PREFIX = "ISOBENCH_TUI_"
Tab = Literal["log", "leaderboard", "compare", "diagnosis", "events"]
SourceName = Literal["default", "file", "environment", "flag"]


class Settings(BaseModel):
    """What a user may set under `[dashboard]`. Each field says what it does; the docs are made from these words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    theme: str = Field(
        "textual-dark",
        description="Colours, by the name of a theme of Textual: `textual-dark`, `textual-light`, `nord`, `gruvbox`, "
        "`ansi-dark` and `ansi-light` (the terminal's own 16 colours), … `$NO_COLOR` turns all colours off.",
    )
    fps: int | None = Field(
        None, ge=1, le=60, description="Frames a second at most. Unset: 5 over SSH, 10 elsewhere."
    )
    mouse: bool = Field(True, description="Whether the mouse works; without it the terminal's own selection does.")
    alerts: Literal["bell", "osc9", "both", "none"] = Field(
        "bell",
        description="How the terminal is told that a campaign paused itself, failed or ended: its bell, a desktop "
        "notice (OSC 9), both, or neither.",
    )
    tab: Tab = Field("log", description="The tab that is open at first.")
    grouped: bool = Field(True, description="Whether the queue has a heading for each task.")
    export_dir: str | None = Field(
        None, description="Folder for exports and copies. Unset: `exports` in the workspace."
    )
    keymap: dict[str, str] = Field(
        default_factory=dict,
        description='Other keys, by the id of an action in the docs: `"queue.skip" = "d"`; several: `"d,f5"`.',
    )


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
    values: dict[str, object] = {}
    sources: dict[str, SourceName] = dict.fromkeys(Settings.model_fields, "default")
    layers: tuple[tuple[SourceName, Mapping[str, object], str], ...] = (
        ("file", _file(path), str(path)),
        ("environment", _environment(), "the environment"),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}, "the command line"),
    )
    for source, layer, where in layers:
        for name, value in layer.items():
            _check(name, value, where)
            values[name] = value
            sources[name] = source
    return Found(Settings.model_validate(values), sources, path)


def _file(path: Path) -> dict[str, object]:
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    for name in Settings.model_fields:
        text = os.environ.get(PREFIX + name.upper())
        if text is not None and name != "keymap":
            found[name] = text
    return found


def _check(name: str, value: object, where: str) -> None:
    field = Settings.model_fields.get(name)
    if field is None:
        known = ", ".join(Settings.model_fields)
        raise SettingsError(f"{where}: unknown key dashboard.{name}; known are {known}")
    try:
        Settings.model_validate({name: value})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("dashboard", *first["loc"]))
        raise SettingsError(f"{where}: {key} = {value!r}: {first['msg']}") from error
    if name == "theme":
        from textual.theme import BUILTIN_THEMES

        if value not in BUILTIN_THEMES:
            known = ", ".join(sorted(BUILTIN_THEMES))
            raise SettingsError(f"{where}: dashboard.theme = {value!r}: no such theme; there are {known}")
    if name == "keymap":
        _check_keymap(TypeAdapter(dict[str, str]).validate_python(value), where)


def _check_keymap(keymap: Mapping[str, str], where: str) -> None:
    from isobench_tui.tui.actions import tables  # loads textual

    known = {action.id for _, table in tables() for action in table if action.key}
    for key in keymap:
        if key not in known:
            raise SettingsError(f"{where}: dashboard.keymap names no action {key!r}; the help (?) lists their ids")


def as_json(found: Found) -> dict[str, Any]:
    """For `isobench config --show --json`: key -> value and source."""
    values = found.settings.model_dump()
    return {name: {"value": values[name], "source": found.sources[name]} for name in values}
