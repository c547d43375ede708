"""`compare`: the arms of one commit side by side, with intervals, verdicts and what stands against them."""

from __future__ import annotations

import argparse
import json
import sys

from isobench_tui.report.compare import to_json, to_text
from isobench_tui.report.table import result_rows
from isobench_tui.report.tasks import tasks
from isobench_tui.results.compare import compare as compare_task
from isobench_tui.store import db
from isobench_tui.store.answer import OK
from isobench_tui.store.selectors import Selector, resolve
from isobench_tui.store.workspace import find


def compare(options: argparse.Namespace) -> int:
    connection = db.open_store(find(options.workspace))
    with db.snapshot(connection):
        commit = resolve(connection, Selector((options.commit,), options.campaign))[0]["commit_sha"]
        rows = result_rows(connection, options.campaign, commit)
        found = tasks(connection, rows, campaign=options.campaign, commit=commit)
    compared = [compare_task(task) for task in found]
    if options.json:
        print(json.dumps(to_json(compared), indent=1, allow_nan=False))
    else:
        sys.stdout.write(to_text(compared))
    return OK
