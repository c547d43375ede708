"""Which jobs a command means: a job id, COMMIT, COMMIT:ARM, COMMIT:AGENT, --campaign NAME, --failed."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

from isobench_tui.store.answer import NOT_FOUND, Rejected

_JOB = re.compile(r"j[0-9a-f]{10}(-\d+)?")
_COMMIT = re.compile(r"([0-9a-fA-F]{4,40})(?::([A-Za-z0-9._-]+))?")
_ARMS = ("baseline", "human", "agent")

_FAILED = "j.state = 'done' AND (j.outcome != 'success' OR j.valid = 0)"


@dataclass(frozen=True, slots=True)
class Selector:
    """Every given part narrows the choice; several texts add up."""

    texts: tuple[str, ...] = ()
    campaign: str | None = None
    failed: bool = False

    def as_args(self) -> dict[str, Any]:
        return {"texts": list(self.texts), "campaign": self.campaign, "failed": self.failed}

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> Selector:
        return cls(tuple(args.get("texts") or ()), args.get("campaign"), bool(args.get("failed")))

    def __str__(self) -> str:
        parts = [*self.texts]
        if self.campaign:
            parts.append(f"--campaign {self.campaign}")
        if self.failed:
            parts.append("--failed")
        return " ".join(parts)


def resolve(connection: sqlite3.Connection, selector: Selector) -> list[sqlite3.Row]:
    """The jobs meant, in queue order, each with commit, campaign name and its running attempt (or None).

    Raises Rejected: 4 where nothing matches, 2 where a text is malformed or ambiguous.
    """
    if not (selector.texts or selector.campaign or selector.failed):
        raise Rejected("say which jobs: a job id, COMMIT, COMMIT:ARM, COMMIT:AGENT, --campaign NAME or --failed")
    where, values = [], []
    if selector.campaign is not None:
        campaign_id(connection, selector.campaign)
        where.append("c.name = ?")
        values.append(selector.campaign)
    if selector.failed:
        where.append(_FAILED)
    found: dict[str, sqlite3.Row] = {}
    for text in selector.texts or (None,):
        clause, more = ("1", []) if text is None else _clause(connection, text, selector.campaign)
        rows = _jobs(connection, [*where, clause], [*values, *more])
        if not rows:
            narrowed = " that ended without a valid success" if selector.failed else ""
            raise Rejected(f"no job matches {text or selector}{narrowed}; `isobench status` lists them", NOT_FOUND)
        found.update((row["id"], row) for row in rows)
    return sorted(found.values(), key=lambda row: (row["campaign_id"], row["position"]))


def campaign_id(connection: sqlite3.Connection, name: str) -> int:
    """Id of a campaign by name. Raises Rejected (4) with the names there are."""
    row = connection.execute("SELECT id FROM campaigns WHERE name = ?", (name,)).fetchone()
    if row is None:
        known = ", ".join(r["name"] for r in connection.execute("SELECT name FROM campaigns ORDER BY id")) or "none"
        raise Rejected(f"no campaign named {name!r} here; there is: {known}", NOT_FOUND)
    return int(row["id"])


def _clause(connection: sqlite3.Connection, text: str, campaign: str | None) -> tuple[str, list[str]]:
    if _JOB.fullmatch(text):
        return "j.id = ?", [text.split("-", maxsplit=1)[0]]
    match = _COMMIT.fullmatch(text)
    if match is None:
        raise Rejected(
            f"{text!r} is no selector: write a job id (j…), COMMIT (4 or more hex digits), COMMIT:ARM or COMMIT:AGENT"
        )
    commit, part = match.group(1).lower(), match.group(2)
    query = (
        "SELECT DISTINCT t.commit_sha FROM tasks t JOIN campaigns c ON c.id = t.campaign_id "
        "WHERE t.commit_sha LIKE ? || '%' AND (? IS NULL OR c.name = ?) ORDER BY t.commit_sha"
    )
    commits = [row["commit_sha"] for row in connection.execute(query, (commit, campaign, campaign))]
    if len(commits) > 1:
        raise Rejected(f"{commit} is ambiguous: {', '.join(c[:12] for c in commits)}")
    if not commits:
        raise Rejected(f"no task has commit {commit}; `isobench status` lists them", NOT_FOUND)
    if part is None:
        return "t.commit_sha = ?", commits
    column = "j.arm" if part in _ARMS else "j.agent"
    return f"t.commit_sha = ? AND {column} = ?", [commits[0], part]


def _jobs(connection: sqlite3.Connection, where: list[str], values: list[str]) -> list[sqlite3.Row]:
    query = (
        "SELECT j.*, t.commit_sha, c.name AS campaign, "
        "(SELECT id FROM attempts a WHERE a.job_id = j.id AND a.state = 'open') AS running "
        "FROM jobs j JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id "
        f"WHERE {' AND '.join(where)} ORDER BY j.campaign_id, j.position"
    )
    return connection.execute(query, values).fetchall()
