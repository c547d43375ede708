"""`plan`: what would run, in order. Starts nothing, writes nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from isobench_tui.campaign.load import load
from isobench_tui.campaign.plan import plan_json, render_plan
from isobench_tui.store.answer import OK, USAGE


def plan(options: argparse.Namespace) -> int:
    submission = load(Path(options.file))
    if options.json:
        print(json.dumps(plan_json(submission), indent=1))
    else:
        print(render_plan(submission), end="")
    return USAGE if any(finding.level == "error" for finding in submission.findings) else OK
