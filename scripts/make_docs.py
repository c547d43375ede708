"""Write the pages of docs/ that are made from the code. A test says when one is out of date."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from isobench_tui.campaign.spec import CampaignFile
from isobench_tui.tui.actions import tables
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.views.help import keys

DOCS = Path(__file__).parents[1] / "docs"

HEAD = """# The campaign file

TOML. Unknown keys are errors, and every error names the file, the key and what would be accepted. Sizes are bytes or
text like `"16g"`, durations seconds or text like `"30m"`. `isobench plan FILE` shows what comes of it.

Written by `scripts/make_docs.py` from `isobench_tui/campaign/spec.py`.
"""


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Models inside a type such as `list[Task] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: object) -> str:
    if value is None or value in ([], {}, ""):
        return "-"
    return f"`{json.dumps(value)}`"


def _section(title: str, text: str, model: type[BaseModel]) -> str:
    rows = [f"\n## {title}\n{text}\n\n| key | default | |\n|---|---|---|\n"]
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        default = "-" if inner else _default(field)
        rows.append(f"| `{name}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |\n")
    return "".join(rows)


def campaign_file() -> str:
    """Every key of the campaign file."""
    parts = [HEAD]
    for name, field in CampaignFile.model_fields.items():
        models = _models(field.annotation)
        text = field.description or ""
        if not models:
            parts.append(f"\n## `[{name}]`\n{text}\n")
            continue
        many = "list" in str(field.annotation)
        parts.append(_section(f"`[[{name}]]`" if many else f"`[{name}]`", text, models[0]))
    return "".join(parts)


DASHBOARD = """# The dashboard

`isobench run FILE` and `isobench attach` open it where there is a terminal; `--plain` prints text instead. It is a
window: it reads the store and writes commands, so any number of them may be open, and closing, killing or losing
one changes nothing. `--readonly` (or a workspace that you may not write) shows the same without the keys that
steer. A copy made by `isobench snapshot` opens in the same way, with no runner.

At 80 columns everything is stacked; from 110 on the queue stands beside what runs and the machine. `z` gives the
focused pane the whole screen. Logs are read from the run directory by offset, never through the runner.

Over SSH it paints 5 frames a second at most, with no spinner and no animation. A terminal that stops reading loses
frames, never the dashboard; it is painted anew when it reads again. Inside tmux, copies reach your clipboard only
with `set -g set-clipboard on`; each copy is also written to a file, whose path is shown.

If it crashes, it says where its report is: a traceback without the values of variables. Exit codes: those of
`isobench run` once all jobs have ended; 0 when it was closed before; 70 after a crash.

Written by `scripts/make_docs.py` from `isobench_tui/tui/actions.py` and `settings.py`.

## Keys
"""

SETTINGS = """
## Settings
In `config.toml` in your config folder (`isobench config --path` says where; `$ISOBENCH_CONFIG` names another), under
`[dashboard]`. The environment wins over the file, `ISOBENCH_TUI_THEME` for `theme` and so on; a flag of the command
wins over both. `isobench config --show` prints what holds and which of them decided it.

| key | default | |
|---|---|---|
"""


def dashboard() -> str:
    """Every key and every setting of the dashboard."""
    parts = [DASHBOARD]
    for heading, actions in tables():
        parts.append(f"\n### {heading}\n| key | does | id |\n|---|---|---|\n")
        for action in actions:
            notes = [word for word, yes in (("steers", action.steers), ("asks first", action.asks)) if yes]
            tail = f" ({', '.join(notes)})" if notes else ""
            shown = keys(action.key).replace("|", "\\|")
            parts.append(f"| `{shown}` | **{action.label}**: {action.help}{tail} | `{action.id}` |\n")
    parts.append(SETTINGS)
    defaults = asdict(Settings())
    for one in fields(Settings):
        says = one.metadata["says"].replace("|", "\\|")
        parts.append(f"| `{one.name}` | {_shown(defaults[one.name])} | {says} |\n")
    return "".join(parts)


PAGES = {"campaign-file.md": campaign_file, "dashboard.md": dashboard}


if __name__ == "__main__":
    for page, render in PAGES.items():
        (DOCS / page).write_text(render())
        sys.stdout.write(f"wrote {DOCS / page}\n")
