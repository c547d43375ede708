"""The tables of `isobench.db` and how a database grows from one version to the next.

Times are UTC ISO-8601 with milliseconds. Migrations only go forward; a backup is made before the first of them.
"""

from __future__ import annotations

_TABLES = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value                       -- counters jobs, attempts, events, live, marks, order; uuid; pause; breaker
) WITHOUT ROWID;
CREATE TABLE campaigns (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    spec_path    TEXT NOT NULL,
    spec_text    TEXT NOT NULL,
    settings     TEXT NOT NULL,  -- campaign.models.Settings as JSON
    simulated    INTEGER NOT NULL DEFAULT 0,
    state        TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'cancelled')),
    paused       TEXT,           -- JSON {at, by} while paused on its own
    submitted_at TEXT NOT NULL,
    updated_at   TEXT NOT NULL
);
CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY,
    campaign_id INTEGER NOT NULL REFERENCES campaigns,
    commit_sha  TEXT NOT NULL,
    parent_sha  TEXT NOT NULL,
    model       TEXT NOT NULL,
    mode        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    workload    TEXT NOT NULL,   -- campaign.models.Workload as JSON
    UNIQUE (campaign_id, commit_sha, fingerprint)
);
CREATE TABLE jobs (
    id            TEXT PRIMARY KEY,
    identity      TEXT NOT NULL UNIQUE,
    campaign_id   INTEGER NOT NULL REFERENCES campaigns,
    task_id       INTEGER NOT NULL REFERENCES tasks,
    arm           TEXT NOT NULL,
    agent         TEXT NOT NULL DEFAULT '',
    repeat        INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    state         TEXT NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'held', 'running', 'done', 'skipped')),
    reason        TEXT NOT NULL DEFAULT '',  -- why held or skipped
    outcome       TEXT CHECK (outcome IN ('success', 'failed', 'timed_out', 'cancelled', 'interrupted')),
    valid         INTEGER,
    failure       TEXT,
    image         TEXT NOT NULL,
    spec          TEXT NOT NULL,             -- campaign.models.JobSpec as JSON
    patch         BLOB,
    counted       INTEGER NOT NULL DEFAULT 0,   -- attempts that count against max_attempts
    interruptions INTEGER NOT NULL DEFAULT 0,
    created_at    TEXT NOT NULL,
    ended_at      TEXT,
    CHECK ((state = 'done') = (outcome IS NOT NULL))
);
CREATE INDEX jobs_queue ON jobs (state, campaign_id, position);
CREATE INDEX jobs_task ON jobs (task_id);
CREATE TABLE attempts (
    id           TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL REFERENCES jobs,
    number       INTEGER NOT NULL,
    lane         INTEGER NOT NULL,
    host         TEXT,                 -- name of the machine that ran it
    state        TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'collected', 'closed')),
    outcome      TEXT CHECK (outcome IN ('success', 'failed', 'timed_out', 'cancelled', 'interrupted')),
    valid        INTEGER,
    counts       INTEGER NOT NULL DEFAULT 0,
    stop         TEXT CHECK (stop IN ('stop', 'skip', 'cancel', 'pause')),  -- asked for by a command
    phase        TEXT NOT NULL DEFAULT 'preflight',
    container    TEXT,
    handle       TEXT,                 -- engine's id of the container or process
    image_ref    TEXT NOT NULL,
    image_digest TEXT,
    image_id     TEXT,
    vllm_version TEXT,
    client_sha256 TEXT,                -- of the measuring program's files, by the driver's `client` event
    model_pins   TEXT,                 -- JSON {model: commit} of what the model phase put into the cache
    model_used   TEXT,
    model_revision TEXT,               -- commit of model_used, where it was pinned
    exit_code    INTEGER,
    signal       INTEGER,
    oom_killed   INTEGER NOT NULL DEFAULT 0,
    files        TEXT,                 -- JSON {name: {size, sha256}} of the run directory at its end
    started_at   TEXT NOT NULL,
    ended_at     TEXT,
    closed_at    TEXT,
    UNIQUE (job_id, number),
    CHECK ((state = 'open') = (outcome IS NULL))
);
CREATE INDEX attempts_open ON attempts (state) WHERE state != 'closed';
-- lists need these three only, and an attempt's row is long
CREATE INDEX attempts_success ON attempts (job_id, number, id) WHERE outcome = 'success';
CREATE TABLE phases (
    attempt_id TEXT NOT NULL REFERENCES attempts,
    seq        INTEGER NOT NULL,
    phase      TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    seconds    REAL,
    outcome    TEXT,                   -- ok failed timed_out cancelled
    detail     TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (attempt_id, seq)
) WITHOUT ROWID;
CREATE TABLE trials (
    attempt_id    TEXT NOT NULL REFERENCES attempts,
    idx           INTEGER NOT NULL,
    counted       INTEGER NOT NULL,
    seed          INTEGER,
    argv          TEXT NOT NULL,       -- JSON list, as executed
    exit_code     INTEGER,
    signal        INTEGER,
    seconds       REAL,
    asked         INTEGER,
    completed     INTEGER,
    failed        INTEGER,
    output_tokens INTEGER,
    window_s      REAL,
    reason        TEXT,                -- why it has no metrics
    PRIMARY KEY (attempt_id, idx)
) WITHOUT ROWID;
CREATE TABLE metrics (
    attempt_id TEXT NOT NULL REFERENCES attempts,
    trial      INTEGER NOT NULL,       -- -1: mean over the counted trials
    name       TEXT NOT NULL,
    value      REAL NOT NULL,
    unit       TEXT NOT NULL,
    better     TEXT NOT NULL,
    PRIMARY KEY (attempt_id, trial, name)
) WITHOUT ROWID;
CREATE TABLE diagnoses (
    attempt_id TEXT PRIMARY KEY REFERENCES attempts,
    failure    TEXT NOT NULL,
    blame      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    file       TEXT NOT NULL DEFAULT '',
    line       INTEGER NOT NULL DEFAULT 0,
    text       TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE flags (
    attempt_id TEXT NOT NULL REFERENCES attempts,
    name       TEXT NOT NULL,
    effect     TEXT NOT NULL CHECK (effect IN ('invalidates', 'notes')),
    text       TEXT NOT NULL,
    PRIMARY KEY (attempt_id, name)
) WITHOUT ROWID;
CREATE TABLE images (
    ref        TEXT PRIMARY KEY,
    pinned     TEXT NOT NULL,
    digest     TEXT,
    id         TEXT,
    size       INTEGER,
    brought_by TEXT,                   -- attempt that pulled it; NULL: it was there before us
    seen_at    TEXT NOT NULL,
    removed_at TEXT
) WITHOUT ROWID;
CREATE TABLE commands (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    args        TEXT NOT NULL,
    actor       TEXT NOT NULL,
    at          TEXT NOT NULL,
    expires_at  TEXT,
    state       TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'rejected')),
    exit_code   INTEGER,
    answer      TEXT,
    answered_at TEXT
);
CREATE INDEX commands_pending ON commands (state) WHERE state = 'pending';
CREATE TABLE events (
    id         INTEGER PRIMARY KEY,
    at         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    campaign   TEXT,
    job_id     TEXT,
    attempt_id TEXT,
    actor      TEXT NOT NULL,
    text       TEXT NOT NULL,
    data       TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE samples (
    at    TEXT NOT NULL,
    kind  TEXT NOT NULL,               -- disk
    key   TEXT NOT NULL,               -- path
    value REAL NOT NULL,               -- bytes free
    total REAL,
    PRIMARY KEY (kind, key, at)
) WITHOUT ROWID;
CREATE TABLE live (
    key        TEXT PRIMARY KEY,
    attempt_id TEXT,
    at         TEXT NOT NULL,
    value      TEXT NOT NULL
) WITHOUT ROWID;
"""

_SLICES = {
    "jobs": ("campaigns", "tasks", "jobs"),
    "attempts": ("attempts", "phases", "trials", "metrics", "diagnoses", "flags"),
    "events": ("events", "commands", "samples"),
    "live": ("live",),
}
"""Counter in `meta` -> the tables whose changes move it."""


def _triggers() -> str:
    return "".join(
        f"CREATE TRIGGER {table}_{verb.lower()}_rev AFTER {verb} ON {table} BEGIN "
        f"UPDATE meta SET value = value + 1 WHERE key = '{counter}'; END;\n"
        for counter, tables in _SLICES.items()
        for table in tables
        for verb in ("INSERT", "UPDATE", "DELETE")
    )


def _counters() -> str:
    return "".join(f"INSERT INTO meta VALUES ('{counter}', 0);\n" for counter in _SLICES)


# frame: path:line of the patch that the evidence leads to; found: JSON {failure, blame} by the attempt's own files;
# why: what its siblings say of it; confirming: one more attempt was queued to confirm it
_SIBLINGS = """
ALTER TABLE diagnoses ADD COLUMN frame TEXT NOT NULL DEFAULT '';
ALTER TABLE diagnoses ADD COLUMN found TEXT;
ALTER TABLE diagnoses ADD COLUMN why TEXT NOT NULL DEFAULT '';
ALTER TABLE diagnoses ADD COLUMN confirming INTEGER NOT NULL DEFAULT 0;
"""

# step: seconds that a row stands for; rows are merged as they age. Samples no longer move the counter `events`: they
# are written with the live row `machine`, which moves `live`
_SAMPLES = """
ALTER TABLE samples ADD COLUMN step INTEGER NOT NULL DEFAULT 10;
CREATE INDEX samples_age ON samples (step, at);
DROP TRIGGER samples_insert_rev;
DROP TRIGGER samples_update_rev;
DROP TRIGGER samples_delete_rev;
"""

# sibling: raised in the light of the task's other attempts, and written again whenever one ends
_SIBLING_FLAGS = "ALTER TABLE flags ADD COLUMN sibling INTEGER NOT NULL DEFAULT 0;"

# images.layers: JSON [[digest, bytes to fetch, media type, diff id, bytes unpacked or null], …], the lowest first
# tasks.blocked: why its arms run in blocks and not in turn, '' where they run in turn, NULL while that is open
_ROOM = """
ALTER TABLE images ADD COLUMN layers TEXT;
ALTER TABLE tasks ADD COLUMN blocked TEXT;
"""

_BUT_REV = "campaign_id, commit_sha, parent_sha, model, mode, fingerprint, workload, blocked"
"""The columns of `tasks` but `rev`."""
_BUT_POSITION = (
    "id, identity, campaign_id, task_id, arm, agent, repeat, state, reason, outcome, valid, failure, image, spec, "
    "patch, counted, interruptions, created_at, ended_at"
)
"""The columns of `jobs` but `position`."""
_OF_JOB = "id = (SELECT task_id FROM jobs WHERE id = {row}.job_id)"
_OF_ATTEMPT = "id = (SELECT j.task_id FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = {row}.attempt_id)"
_MARKED = (
    ("campaigns", " OF name, simulated", "", "campaign_id = {row}.id"),
    ("tasks", f" OF {_BUT_REV}", "", "id = {row}.id"),
    ("jobs", f" OF {_BUT_POSITION}", "", "id = {row}.task_id"),
    ("attempts", "", "", _OF_JOB),
    ("metrics", "", " WHEN {row}.trial = -1", _OF_ATTEMPT),
    ("diagnoses", "", "", _OF_ATTEMPT),
    ("flags", "", "", _OF_ATTEMPT),
)
"""(table, columns whose update counts, rows that count, the tasks that a change of such a row marks)."""


def _mark(table: str, verb: str, columns: str, rows: str, tasks: str) -> str:
    row, of = "OLD" if verb == "DELETE" else "NEW", columns if verb == "UPDATE" else ""
    return (
        f"CREATE TRIGGER {table}_{verb.lower()}_mark AFTER {verb}{of} ON {table}{rows.format(row=row)} BEGIN "
        "UPDATE meta SET value = value + 1 WHERE key = 'marks'; "
        "UPDATE tasks SET rev = (SELECT value FROM meta WHERE key = 'marks') "
        f"WHERE {tasks.format(row=row)}; END;\n"
    )


# tasks.rev: what the counter `marks` was when anything of the task was written last. Positions of its jobs are none
# of it, they move the counter `order`: a job that goes behind its task shifts all that stand behind. A new `rev`
# moves no other counter. jobs_order and jobs_tally have all that an order and a tally need
_CHANGES = f"""
ALTER TABLE tasks ADD COLUMN rev INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_rev ON tasks (rev);
CREATE INDEX jobs_order ON jobs (campaign_id, position, id);
CREATE INDEX jobs_tally ON jobs (campaign_id, state, outcome, valid);
INSERT INTO meta VALUES ('marks', 0);
INSERT INTO meta VALUES ('order', 0);
DROP TRIGGER tasks_update_rev;
CREATE TRIGGER tasks_update_rev AFTER UPDATE OF {_BUT_REV} ON tasks BEGIN
UPDATE meta SET value = value + 1 WHERE key = 'jobs'; END;
CREATE TRIGGER jobs_insert_order AFTER INSERT ON jobs BEGIN
UPDATE meta SET value = value + 1 WHERE key = 'order'; END;
CREATE TRIGGER jobs_delete_order AFTER DELETE ON jobs BEGIN
UPDATE meta SET value = value + 1 WHERE key = 'order'; END;
CREATE TRIGGER jobs_update_order AFTER UPDATE OF position ON jobs WHEN NEW.position != OLD.position BEGIN
UPDATE meta SET value = value + 1 WHERE key = 'order'; END;
""" + "".join(_mark(table, verb, *about) for table, *about in _MARKED for verb in ("INSERT", "UPDATE", "DELETE"))

MIGRATIONS: tuple[str, ...] = (
    _TABLES + _counters() + _triggers(),
    _SIBLINGS,
    _SAMPLES,
    _SIBLING_FLAGS,
    _ROOM,
    _CHANGES,
)
"""Script n takes a database from version n to n + 1."""

VERSION = len(MIGRATIONS)
