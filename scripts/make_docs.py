"""Write docs/campaign-file.md from the models that read the file. A test says when it is out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from isobench_tui.campaign.spec import CampaignFile

TARGET = Path(__file__).parents[1] / "docs" / "campaign-file.md"

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
    value = field.get_default(call_default_factory=True)
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


def render() -> str:
    """The whole page."""
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


if __name__ == "__main__":
    TARGET.write_text(render())
    sys.stdout.write(f"wrote {TARGET}\n")
