"""The grammar of the command line. Each command names the function that does it; nothing is imported here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from isobench_tui import __version__

_EPILOG = """\
SEL names jobs: a job id, COMMIT (4 or more hex digits), COMMIT:ARM (baseline,
human, agent), COMMIT:AGENT.
exit codes: 0 done and all valid, 1 done with failures or invalid results,
2 usage or campaign file error, 3 engine unreachable, 4 no such campaign or
job, 130 interrupted.
"""


def build(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of `isobench`; given a command, only with the group around it: all of them take 15 ms to build."""
    parser = argparse.ArgumentParser(
        prog="isobench",
        description="Run long campaigns of containerized vLLM benchmarks, one at a time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"isobench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups = (_running, _services, _reading, _explaining, _doctor, _archives, _steering)
    for group in [_GROUP_OF[command]] if command in _GROUP_OF else groups:
        group(commands)
    return parser


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add(commands: Commands, name: str, call: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(call=call, command=name)
    parser.add_argument(
        "--workspace", metavar="DIR", help="folder of the database and runs (default: $ISOBENCH_WORKSPACE)"
    )
    return parser


def _running(commands: Commands) -> None:
    run = _add(commands, "run", "run:run", "submit a campaign, start the runner where none lives, and follow")
    run.add_argument("file", metavar="FILE", nargs="?", help="campaign file; without it, go on with what is queued")
    run.add_argument("--detach", action="store_true", help="return as soon as the runner works")
    run.add_argument(
        "--allow-prune-all",
        action="store_true",
        help='confirm, once for a workspace, [images] prune = "all": images of others may be removed',
    )
    _shows(run)
    attach = _add(commands, "attach", "run:attach", "follow what the runner does; ctrl-c only detaches")
    attach.add_argument("--campaign", metavar="NAME", help="follow this campaign until it ends")
    _shows(attach)
    demo = _add(commands, "demo", "demo:demo", "run a simulated campaign: no Docker, no GPU, about two minutes")
    demo.add_argument("--detach", action="store_true", help="return as soon as the runner works")
    _shows(demo)


def _shows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain text instead of the dashboard")
    parser.add_argument("--readonly", action="store_true", help="a dashboard that steers nothing")
    parser.add_argument("--theme", metavar="NAME", help="colours of the dashboard (`isobench config --show`)")
    parser.add_argument("--fps", type=int, metavar="N", help="frames a second of the dashboard, 1 to 60")


def _services(commands: Commands) -> None:
    text = "a systemd user unit that brings the runner back after a crash or a reboot"
    parser = commands.add_parser("service", help=text, description=text)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, what in (
        ("install", "write the unit and enable it"),
        ("uninstall", "take it away; a living runner goes on"),
        ("status", "whether it is installed, and whether it lives without a login"),
    ):
        _add(verbs, name, f"service:{name}", what)


def _reading(commands: Commands) -> None:
    _plan(commands)
    status = _add(commands, "status", "status:status", "the queue, what runs now, and the disk")
    status.add_argument("--campaign", metavar="NAME", help="only this campaign")
    status.add_argument("--json", action="store_true", help="for programs")
    logs = _add(commands, "logs", "logs:logs", "the logs of a job's newest attempt, in the order of its phases")
    logs.add_argument("selector", metavar="SEL", help="a job; of several, the running or newest one")
    logs.add_argument("-f", "--follow", action="store_true", help="follow across phases until the job ends")
    logs.add_argument("--attempt", type=int, metavar="N", help="an older attempt (1 is the first)")
    logs.add_argument("--file", metavar="NAME", help="only this log: setup, server, client-00, …")
    logs.add_argument("--json", action="store_true", help="one object a line: file, line, text")
    compare = _add(commands, "compare", "compare:compare", "the arms of a commit side by side, and what may be said")
    compare.add_argument("commit", metavar="COMMIT", help="4 or more hex digits, or a job of it")
    compare.add_argument("--campaign", metavar="NAME", help="only this campaign")
    compare.add_argument("--json", action="store_true", help="for programs")
    board = _add(
        commands, "leaderboard", "leaderboard:leaderboard", "who is fastest at each workload, and the agents"
    )
    board.add_argument("--campaign", metavar="NAME", help="only this campaign")
    keys = ("rank", "speedup", "human", "value", "n", "commit", "side")
    board.add_argument("--sort", choices=keys, default="rank", metavar="K", help=f"{', '.join(keys)}; default: rank")
    board.add_argument("--json", action="store_true", help="for programs")
    export = _add(commands, "export", "export:export", "the result table, the leaderboard or the events")
    export.add_argument(
        "what",
        nargs="?",
        choices=("results", "leaderboard", "events"),
        default="results",
        metavar="WHAT",
        help="results (default), leaderboard or events",
    )
    export.add_argument("--campaign", metavar="NAME", help="only this campaign")
    export.add_argument("--format", choices=("md", "csv", "json"), default="md", help="default: md")
    export.add_argument("--json", dest="format", action="store_const", const="json", help="same as --format json")
    export.add_argument("-o", "--output", metavar="PATH", help="write to a file instead of standard output")
    config = _add(commands, "config", "config:config", "the dashboard's settings, and which source decided each")
    config.add_argument("--show", action="store_true", help="print them (this is what it does anyway)")
    config.add_argument("--path", action="store_true", help="print only where the file lies")
    config.add_argument("--json", action="store_true", help="for programs")
    snapshot = _add(
        commands, "snapshot", "snapshot:snapshot", "a consistent copy of the workspace, also while it runs"
    )
    snapshot.add_argument("target", metavar="DIR", help="a folder that does not exist yet")
    rebuild = _add(
        commands, "rebuild", "rebuild:rebuild", "mend the database: a sound backup, and what the run directories hold"
    )
    rebuild.add_argument("files", metavar="FILE", nargs="*", help="campaign files whose jobs the backup lacks")
    rebuild.add_argument(
        "--from", dest="backup", metavar="BACKUP", help="go back to this one (default: where needed)"
    )


def _explaining(commands: Commands) -> None:
    why = _add(commands, "why", "why:why", "the story of a job: what happened, what proves it, what to do")
    why.add_argument("selector", metavar="SEL", help="jobs, see below")
    why.add_argument("--json", action="store_true", help="for programs")
    parse = _add(commands, "parse", "diagnose:parse", "the numbers in one client's log or result JSON")
    parse.add_argument("file", metavar="FILE", help="what the client printed, or the JSON that it wrote")
    modes = ("serving", "throughput", "latency", "prefix_caching")
    parse.add_argument("--mode", choices=modes, metavar="M", help=f"{', '.join(modes)}; default: by its words")
    parse.add_argument("--json", action="store_true", help="for programs")
    diagnose = _add(commands, "diagnose", "diagnose:diagnose", "why an attempt failed, from its logs alone")
    diagnose.add_argument("logs", metavar="LOG", nargs="+", help="log files, or the folder of one attempt")
    diagnose.add_argument("--exit", type=int, metavar="N", help="exit code of the program or container")
    diagnose.add_argument("--oom-killed", action="store_true", help="the engine says OOMKilled")
    diagnose.add_argument("--patch", metavar="FILE", help="the diff that was applied: a traceback may lead into it")
    diagnose.add_argument("--json", action="store_true", help="for programs")


def _doctor(commands: Commands) -> None:
    text = "whether this host can run a campaign, and what to do where it cannot"
    doctor = _add(commands, "doctor", "doctor:doctor", text)
    doctor.epilog = (
        "exit codes: 0 a run could start, 2 the campaign file, its secrets or the workspace\n"
        "stop it, 3 the machine does."
    )
    doctor.add_argument("file", metavar="FILE", nargs="?", help="campaign file: check what it needs")
    doctor.add_argument(
        "--gpu", action="store_true", help="what the GPU monitor reads, and nothing else; 3: there is no reading"
    )
    doctor.add_argument("--json", action="store_true", help="for programs")


def _archives(commands: Commands) -> None:
    text = "old result files: what was recorded beside what the evidence says"
    audit = _add(commands, "audit", "audit:audit", text)
    audit.epilog = "exit codes: 0 all records agree with their evidence, 1 some do not, 2 usage."
    audit.add_argument("--format", choices=("text", "md", "json"), default="text", help="default: text")
    audit.add_argument("--json", dest="format", action="store_const", const="json", help="same as --format json")
    audit.add_argument("--md", dest="format", action="store_const", const="md", help="same as --format md")
    audit.add_argument("--title", metavar="TEXT", help="heading of the Markdown report")
    audit.add_argument("-o", "--output", metavar="PATH", help="write to a file instead of standard output")
    put = _add(commands, "import", "audit:import_", "put old results into the store, audited and never compared")
    put.add_argument("--campaign", metavar="NAME", help="default: legacy- and the folder's name")
    for parser in (audit, put):
        parser.add_argument("paths", metavar="PATH", nargs="+", help="result files, or folders of them")
        parser.add_argument(
            "--agent-runs", metavar="DIR", help="look at the patches too: a state tree, or a folder of diffs"
        )


def _plan(commands: Commands) -> None:
    plan = _add(commands, "plan", "plan:plan", "print what would run, in order; starts nothing")
    plan.add_argument("file", metavar="FILE", nargs="?", help="campaign file")
    plan.add_argument("--json", action="store_true", help="for programs")
    checkout = plan.add_argument_group("or a campaign out of an ISO-Bench checkout")
    checkout.add_argument("--isobench", metavar="ROOT", help="folder of the checkout")
    checkout.add_argument(
        "--agent",
        metavar="NAME[=RUN_DIR]",
        action="append",
        default=[],
        help="an agent whose patches to run: its newest runs, or those in RUN_DIR (relative to ROOT); repeatable",
    )
    checkout.add_argument(
        "--commit", metavar="C", action="append", help="a commit of the mapping; without it all that an agent has"
    )
    checkout.add_argument("--mapping", metavar="PATH", help="one mapping file instead of all in data/mappings")
    checkout.add_argument("-o", "--output", metavar="FILE", help="write the campaign file, to be read and edited")


def _steering(commands: Commands) -> None:
    pause = _add(commands, "pause", "control:pause", "start nothing new; what is measured runs to its end")
    pause.add_argument("--now", action="store_true", help="also stop what runs; it goes back to the front")
    pause.add_argument("--campaign", metavar="NAME", help="only this campaign")
    _waits(pause)
    resume = _add(commands, "resume", "control:resume", "undo a pause, also one that the runner made itself")
    resume.add_argument("--campaign", metavar="NAME", help="only this campaign")
    for name, text in (
        ("skip", "skip every unfinished job of SEL; a running one is cancelled"),
        ("retry", "undo a skip, or queue a new attempt of an ended job"),
        ("hold", "leave queued jobs where they are, but do not start them"),
        ("release", "undo a hold"),
        ("stop", "kill the running attempt (of SEL); its job goes back to the front"),
        ("move", "change the order of queued jobs"),
    ):
        command = _add(commands, name, "control:select", text)
        _selects(command)
        if name in {"skip", "stop"}:
            _waits(command)
        if name == "move":
            place = command.add_mutually_exclusive_group(required=True)
            place.add_argument("--first", action="store_true", help="before everything else of its campaign")
            place.add_argument("--last", action="store_true", help="behind everything else of its campaign")
            place.add_argument("--after", metavar="SEL", help="behind this job or commit")
    cancel = _add(commands, "cancel", "control:cancel", "skip all that is left of a campaign")
    cancel.add_argument("campaign", metavar="CAMPAIGN")
    _waits(cancel)
    shutdown = _add(commands, "shutdown", "control:shutdown", "end the runner after the running attempt")
    shutdown.add_argument("--now", action="store_true", help="at once; what runs goes on and is adopted later")
    shutdown.add_argument("--at", metavar="TIME", help="ISO 8601 or HH:MM; start nothing that would overrun it")
    _waits(shutdown)


def _selects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("selectors", metavar="SEL", nargs="*", help="jobs, see below")
    parser.add_argument("--campaign", metavar="NAME", help="only jobs of this campaign")
    parser.add_argument("--failed", action="store_true", help="only jobs that ended without a valid success")


def _waits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="return when it has happened, not when it is accepted")


_GROUP_OF = {"status": _reading, "logs": _reading, **dict.fromkeys(("pause", "resume", "skip", "stop"), _steering)}
"""Commands that shall start at once."""
