"""`leaderboard`: the sides of every workload, ranked by what may be said for sure, and the agents."""

from __future__ import annotations

import argparse
import json
import sys

from isobench_tui.report.leaderboard import read
from isobench_tui.report.leaderboard_text import to_json, to_text
from isobench_tui.store import db
from isobench_tui.store.answer import OK
from isobench_tui.store.selectors import campaign_id
from isobench_tui.store.workspace import find


def leaderboard(options: argparse.Namespace) -> int:
    connection = db.open_store(find(options.workspace))
    if options.campaign is not None:
        campaign_id(connection, options.campaign)
    with db.snapshot(connection):
        board = read(connection, options.campaign)
    if options.json:
        print(json.dumps(to_json(board), indent=1, allow_nan=False))
    else:
        sys.stdout.write(to_text(board, options.sort))
    return OK
