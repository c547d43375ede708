"""`plan`: what would run, in order. Starts nothing; out of an ISO-Bench checkout it can write a campaign file."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from pydantic import ValidationError

from isobench_tui.campaign.load import load
from isobench_tui.campaign.models import Submission
from isobench_tui.campaign.plan import plan_json, render_plan
from isobench_tui.campaign.problems import from_validation
from isobench_tui.campaign.spec import NEWEST, IsobenchTable
from isobench_tui.store.answer import OK, USAGE, Rejected


def plan(options: argparse.Namespace) -> int:
    if options.isobench is None:
        submission = _file(options)
    elif options.file is not None:
        raise Rejected("plan: a campaign file, or --isobench with its own options, not both")
    else:
        submission = _checkout(options)
    if options.json:
        print(json.dumps(plan_json(submission), indent=1))
    else:
        print(render_plan(submission), end="")
    return USAGE if any(finding.level == "error" for finding in submission.findings) else OK


def _file(options: argparse.Namespace) -> Submission:
    given = {"--agent": options.agent, "--commit": options.commit, "--mapping": options.mapping, "-o": options.output}
    alone = [name for name, value in given.items() if value]
    if alone:
        raise Rejected(f"plan: {alone[0]} goes with --isobench ROOT")
    if options.file is None:
        raise Rejected("plan: a campaign file is missing, or --isobench ROOT")
    return load(Path(options.file))


def _checkout(options: argparse.Namespace) -> Submission:
    from isobench_tui.campaign import isobench_write

    agents: dict[str, str] = {}
    for name, _, run in (agent.partition("=") for agent in options.agent):
        if name in agents:
            raise Rejected(f"plan: --agent {name} is given twice; another NAME=RUN_DIR for another run")
        agents[name] = run or NEWEST
    given = {"root": options.isobench, "agents": agents, "commits": options.commit, "mapping": options.mapping}
    try:
        table = IsobenchTable.model_validate(given)
    except ValidationError as error:
        raise from_validation("--isobench", error, IsobenchTable) from error
    base = Path.cwd()
    target = base / (options.output or "campaign.toml")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", target.stem if options.output else "-".join(agents))[:64].strip(".")
    text, submission = isobench_write.campaign(table, base, name or "iso-bench", target)
    if not options.output:
        return submission.model_copy(update={"spec_path": f"not written (-o FILE does), out of {options.isobench}"})
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise Rejected(f"{options.output} exists; another name with -o, or remove it first") from error
    print(f"isobench: wrote {options.output}", file=sys.stderr)
    return submission
