"""`why`: the story of a job in plain words: what ran, what happened, what proves it, what was done, what to do."""

from __future__ import annotations

import argparse
import json

from isobench_tui.report.text import safe
from isobench_tui.report.why import Story, stories, to_json
from isobench_tui.report.why_words import tell
from isobench_tui.store import db
from isobench_tui.store.answer import OK
from isobench_tui.store.selectors import Selector
from isobench_tui.store.workspace import find


def why(options: argparse.Namespace) -> int:
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    with db.snapshot(connection):
        found = stories(workspace, connection, Selector((options.selector,)))
    if options.json:
        print(json.dumps([to_json(story) for story in found], indent=1))
        return OK
    print("\n\n".join("\n".join(_lines(story)) for story in found))
    return OK


def _lines(story: Story) -> list[str]:
    out = [f"{story.name}  job {story.job} of {story.campaign}"]
    for part in tell(story):
        first, *more = part.lines
        out += [f"{part.title + ':':16}{safe(first)}", *(" " * 16 + safe(line) for line in more)]
    return out
