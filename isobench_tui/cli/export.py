"""`export`: the result table as Markdown, CSV or JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from isobench_tui.report.export import export as render
from isobench_tui.report.export import write_export
from isobench_tui.report.table import result_rows
from isobench_tui.report.tasks import DECIDING, tasks
from isobench_tui.results.compare import compare
from isobench_tui.store import db
from isobench_tui.store.answer import OK
from isobench_tui.store.selectors import campaign_id
from isobench_tui.store.workspace import find


def export(options: argparse.Namespace) -> int:
    connection = db.open_store(find(options.workspace))
    if options.campaign is not None:
        campaign_id(connection, options.campaign)
    with db.snapshot(connection):
        rows = result_rows(connection, options.campaign)
        found = tasks(connection, rows, campaign=options.campaign, metrics=DECIDING)
    text = render(rows, options.format, [compare(task, DECIDING) for task in found])
    if options.output is None:
        sys.stdout.write(text)
        return OK
    path = Path(options.output)
    write_export(path, text)
    print(f"wrote {path}", file=sys.stderr)
    return OK
