"""Notifications: what happened, handed to a command of the operator or to the services that Apprise knows.

`python -m isobench_tui.report.notify` delivers to Apprise: a process of its own, so that a service that does not
answer can be killed, with the URLs on standard input, because they hold tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Kind = Literal["paused", "failed", "ended"]

SCHEMA_VERSION: Final = 1
"""Of the JSON that a command reads; grows when a key changes its meaning or goes away."""
LIMIT_S = 30.0
"""How long a command or a service may take; then it is killed."""
SAID = 500
"""Characters of a failed command's own words that are kept."""


class NotDelivered(Exception):
    """A notification did not get through; the message says why."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that an operator wants to know without looking."""

    kind: Kind
    """The queue paused itself; attempts ended without a result; a campaign has ended."""
    campaign: str | None
    at: str
    title: str
    text: str
    """One line a fact."""
    workspace: str
    host: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """`ended`: the numbers of jobs; `failed`: the attempts."""

    def json(self) -> bytes:
        """What a command reads from its standard input: one object on one line."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, ensure_ascii=False).encode() + b"\n"


async def by_command(argv: Sequence[str], notice: Notice, limit: float = LIMIT_S) -> None:
    """Run the operator's command with the notice on its standard input. Raises NotDelivered."""
    await _run(argv, notice.json(), argv[0], limit)


async def by_apprise(urls: Sequence[str], notice: Notice, limit: float = LIMIT_S) -> None:
    """Send to every URL. Raises NotDelivered, also where Apprise is not installed."""
    orders = {"urls": list(urls), "title": notice.title, "text": notice.text, "kind": notice.kind}
    await _run([sys.executable, "-m", "isobench_tui.report.notify"], json.dumps(orders).encode(), "apprise", limit)


async def _run(argv: Sequence[str], given: bytes, name: str, limit: float) -> None:
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise NotDelivered(f"{name}: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(limit):
            _, said = await child.communicate(given)
    except TimeoutError:
        raise NotDelivered(f"{name}: not done within {limit:g} s, killed") from None
    finally:
        if child.returncode is None:
            _kill(child)
            await child.wait()
    if child.returncode != 0:
        words = " ".join(said[-4 * SAID :].decode(errors="replace").split())[-SAID:]
        raise NotDelivered(f"{name}: exit code {child.returncode}" + (f": {words}" if words else ""))


def _kill(child: asyncio.subprocess.Process) -> None:
    """The command and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def main() -> int:
    """Deliver what standard input says. 0: every service took it; 1: one did not; 3: Apprise is not installed."""
    orders = json.load(sys.stdin)
    try:
        import apprise
    except ImportError:
        print("not installed; `pip install 'isobench-tui[notify]'`", file=sys.stderr)  # noqa: T201
        return 3
    level = {"paused": apprise.NotifyType.WARNING, "failed": apprise.NotifyType.FAILURE}
    refused = 0
    for number, url in enumerate(orders["urls"], 1):
        service = apprise.Apprise()
        kind = level.get(orders["kind"], apprise.NotifyType.INFO)
        if not service.add(url):
            print(f"URL {number} is none that Apprise knows", file=sys.stderr)  # noqa: T201 - the URL holds a token
            refused += 1
        elif not service.notify(title=orders["title"], body=orders["text"], notify_type=kind):
            print(f"the service of URL {number} did not take it", file=sys.stderr)  # noqa: T201
            refused += 1
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
