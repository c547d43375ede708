"""What came out of an attempt: its run directory read once, judged, and made into the rows of one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from isobench_tui.campaign import patchlint
from isobench_tui.engine.base import DiskFull, EngineError, Exit, Handle
from isobench_tui.engine.job import INSPECT_FILE, SERVER_LOG, SETUP_LOG
from isobench_tui.results.classes import blame_for
from isobench_tui.results.diagnose import EXIT_FULL
from isobench_tui.results.facts import AttemptFacts, MachineFacts, event_text
from isobench_tui.results.judge import judge
from isobench_tui.results.models import Diagnosis, Evidence, TrialFacts, Verdict
from isobench_tui.results.parse import parse_client
from isobench_tui.results.text import LogBytes
from isobench_tui.results.validity import passing
from isobench_tui.runner import breaker, faults, jobfile, policy, preflight
from isobench_tui.runner.eventlog import EventLog
from isobench_tui.runner.services import Services
from isobench_tui.store import db, secrets
from isobench_tui.store.attempts import Done, Ending, Requeue, Trial
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.workspace import boot_id

if TYPE_CHECKING:
    from isobench_tui.runner.attempt import Order

OWN_DOING = 256 * 1024**2
"""Bytes of a run directory beyond which a full disk may be the measured code's own work."""
_RUN_DIRECTORY = "run directory"


OURS = "isobench"
"""Key of inspect.json under which the runner's own columns of the attempt stand."""
OURS_COLUMNS = ("host", "started_at", "image_digest", "image_id", "model_pins", "stop")


@dataclass(slots=True)
class HostFacts:
    """What the runner itself saw of an attempt; at most one of the reasons is set."""

    exit: Exit | None = None
    stopped: bool = False
    interrupted: str | None = None
    timeout: tuple[str, str] | None = None
    """(phase, sentence)"""
    refused: tuple[str, str] | None = None
    """(class, sentence): preflight or the model phase found that it cannot run."""
    refused_in: str = "preflight"
    engine: tuple[str, str] | None = None
    """(class, the engine's own words)"""
    machine: MachineFacts | None = None
    """The lane's GPUs while it measured; None: nothing watched them."""
    wants: tuple[tuple[str, int], ...] = ()
    """(path, bytes) that the attempt needed free on the disks, as forecast before it began."""
    foreseen: bool = False
    """It was not begun, because the disks had no room for it."""
    starved: str | None = None
    """A folder whose disk was seen full while measured code ran."""


def note(facts: HostFacts, error: Exception, *, launched: bool) -> None:
    """File what ended an attempt under the right head.

    `launched`: measured code may have run, so that an OSError may be its work and no fault of this machine.
    """
    from isobench_tui.runner.attempt import PhaseTimeout, Stopped

    match error:
        case Stopped():
            facts.stopped = True
        case PhaseTimeout():
            facts.timeout = (error.phase, str(error))
        case preflight.Refused():
            facts.refused, facts.refused_in = (error.failure, str(error)), error.where
        case EngineError():
            facts.engine = (error.failure, str(error))
            if isinstance(error, DiskFull) and error.wants:
                facts.wants, facts.foreseen = error.wants, True
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            facts.engine = ("disk_full", str(error))
        case OSError() if not launched:
            facts.engine = ("engine_error", str(error) or type(error).__name__)
        case _:
            facts.refused = ("unknown", f"the harness itself failed: {type(error).__name__}: {error}")


async def gather(
    services: Services, order: Order, run_dir: RunDir, handle: Handle | None, facts: HostFacts
) -> Ending:
    """Read everything, judge it. The fate is decided later, inside the transaction."""
    if handle is not None:
        try:
            seen = await services.engine.inspect(handle)
        except EngineError as error:
            seen = {"error": str(error)}
        seen = {**seen, OURS: await services.writer.plain(lambda connection: _ours(connection, order.attempt))}
        with contextlib.suppress(OSError):  # a full disk, or what measured code made of the folder
            run_dir.write(INSPECT_FILE, json.dumps(seen, indent=1, default=str).encode())
    await faults.point("noted")
    return await asyncio.to_thread(read, order, run_dir, facts)


def _ours(connection: sqlite3.Connection, attempt: str) -> dict[str, Any]:
    """What only the store knows of an attempt, for whoever has to do without the store."""
    query = f"SELECT {', '.join(OURS_COLUMNS)} FROM attempts WHERE id = ?"
    return dict(connection.execute(query, (attempt,)).fetchone())


def without_files(facts: HostFacts) -> Ending:
    """The ending of an attempt whose files could not be read in time."""
    verdict = _own_verdict(facts) or Verdict(
        "failed", diagnosis=Diagnosis("unknown", "undetermined", "not collected")
    )
    return Ending(verdict, Done(), counts=True)


def decide(connection: sqlite3.Connection, attempt: str, ending: Ending, max_attempts: int) -> Ending:
    """Apply the retry policy with the counters of the job as they are now."""
    row = connection.execute(
        "SELECT a.stop, a.job_id, j.counted, j.interruptions FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "WHERE a.id = ?",
        (attempt,),
    ).fetchone()
    decision = policy.decide(
        ending.verdict,
        stop=row["stop"],
        counted=row["counted"],
        interruptions=row["interruptions"],
        max_attempts=max_attempts,
        told=_told(connection, row["job_id"], ending.verdict),
        repeated=_repeated(connection, row["job_id"]),
    )
    return replace(ending, fate=decision.fate, counts=decision.counts)


def _told(connection: sqlite3.Connection, job: str, verdict: Verdict) -> int:
    """Attempts of the job, this one included, whose class is a fault of the machine by the word of a log alone, or
    by a disk that its own files filled."""
    found = verdict.diagnosis
    if found is None or found.evidence is None or not found.evidence.file.endswith((".log", _RUN_DIRECTORY)):
        return 0
    rows = connection.execute(
        "SELECT d.failure FROM diagnoses d JOIN attempts a ON a.id = d.attempt_id "
        "WHERE a.job_id = ? AND (d.file LIKE '%.log' OR d.file = ?) AND NOT a.counts",
        (job, _RUN_DIRECTORY),
    )
    return 1 + sum(policy.RULES.get(row["failure"], policy.DEFAULT).pauses for row in rows)


def _repeated(connection: sqlite3.Connection, job: str) -> bool:
    """Whether an earlier attempt of the job was an invalid success that transient flags alone made invalid."""
    rows = connection.execute(
        "SELECT group_concat(f.name) AS names FROM attempts a JOIN flags f ON f.attempt_id = a.id "
        "WHERE a.job_id = ? AND a.outcome = 'success' AND f.effect = 'invalidates' GROUP BY a.id",
        (job,),
    )
    return any(passing(row["names"].split(",")) for row in rows)


def pause_queue(connection: sqlite3.Connection, order: Order, ending: Ending, facts: HostFacts) -> None:
    """Trip the breaker for a fault of the machine, or for one class over several tasks."""
    diagnosis = ending.verdict.diagnosis
    failure = diagnosis.failure if diagnosis else None
    if failure is not None and policy.RULES.get(failure, policy.DEFAULT).pauses and isinstance(ending.fate, Requeue):
        assert diagnosis is not None
        full = failure == "disk_full"
        breaker.trip(
            connection,
            failure,
            diagnosis.reason,
            wants=facts.wants if full else (),
            foreseen=full and facts.foreseen,
        )
        return
    if ending.verdict.outcome in {"cancelled", "interrupted"}:
        return
    value = db.meta(connection, "same_failure")
    seen = policy.same_failure(json.loads(str(value)) if value else {}, failure, order.task)
    db.set_meta(connection, "same_failure", json.dumps(seen))
    limit = order.settings.same_failure
    if failure is not None and len(seen.get(failure, [])) >= limit:
        db.set_meta(connection, "same_failure", None)
        reason = f"{limit} different tasks running failed with it, so it is hardly a patch"
        breaker.trip(connection, failure, reason, probe=False)


def read(order: Order, run_dir: RunDir, facts: HostFacts) -> Ending:
    """What a run directory tells of an attempt that has ended, judged; `files` are hashed as they are now."""
    log = EventLog(run_dir)
    log.read()
    with contextlib.ExitStack() as stack:
        logs = _logs(order, run_dir, stack)
        return _read_with(order, run_dir, facts, log, logs)


def _read_with(order: Order, run_dir: RunDir, facts: HostFacts, log: EventLog, logs: _Logs) -> Ending:
    trials = _trials(order, run_dir, log.seen, logs)
    hide = secrets.redactor()
    python = log.last("python") or {}
    override = log.last("override") or {}
    client = log.last("client") or {}
    spec = order.spec
    used = event_text(override, "use") if override.get("applied") is True else spec.workload.model
    verdict = _own_verdict(facts) or _judge(order, run_dir, facts, log, trials, logs)
    exit_ = facts.exit or Exit(code=None)
    return Ending(
        _hidden(verdict, hide),
        Done(),
        counts=True,
        exit_code=_int(exit_.code),
        signal=_int(exit_.signal),
        oom_killed=exit_.oom_killed,
        vllm_version=event_text(python, "vllm_version") or None,
        model_used=used,
        client_sha256=event_text(client, "sha256") or None,
        trials=tuple(_hidden_trial(trial, hide) for trial in trials),
        files=run_dir.digest(),
    )


def _hidden(verdict: Verdict, hide: Callable[[str], str]) -> Verdict:
    """The verdict without secrets that measured code printed: its texts are stored, shown and exported."""
    found = verdict.diagnosis
    if found is not None:
        proof = replace(found.evidence, text=hide(found.evidence.text)) if found.evidence else None
        found = replace(found, reason=hide(found.reason), evidence=proof)
    flags = tuple(replace(flag, text=hide(flag.text)) for flag in verdict.flags)
    return replace(verdict, diagnosis=found, flags=flags)


def _hidden_trial(trial: Trial, hide: Callable[[str], str]) -> Trial:
    result = trial.facts.result
    if result.reason is not None:
        result = replace(result, reason=hide(result.reason))
    return replace(trial, facts=replace(trial.facts, result=result), argv=tuple(map(hide, trial.argv)))


def _own_verdict(facts: HostFacts) -> Verdict | None:
    """Where the runner itself knows the end, nothing in the files can change it."""
    if facts.refused is not None:
        failure, reason = facts.refused
        proof = Evidence(file=facts.refused_in, line=0, text=reason)
        return Verdict("failed", diagnosis=Diagnosis(failure, blame_for(failure, patched=False), reason, proof))
    if facts.foreseen and facts.engine is not None and not facts.stopped:
        failure, reason = facts.engine
        proof = Evidence(file="preflight", line=0, text=reason)
        return Verdict("failed", diagnosis=Diagnosis(failure, "infra", reason, proof))
    if facts.timeout is not None and facts.timeout[0] not in {"setup", "server", "measure"}:
        phase, reason = facts.timeout
        proof = Evidence(file=phase, line=0, text=reason)
        return Verdict("timed_out", diagnosis=Diagnosis("timeout", "infra", reason, proof))
    return None


def _judge(
    order: Order,
    run_dir: RunDir,
    facts: HostFacts,
    log: EventLog,
    trials: tuple[Trial, ...],
    logs: _Logs,
) -> Verdict:
    seen = log.seen
    exit_ = facts.exit or Exit(code=None)
    ended_itself = exit_.code == 0
    engine = facts.engine
    if engine is None and exit_.error and not seen and exit_.code is not None:
        engine = ("env_broken", exit_.error)  # the container's init could not even start the driver
    lost = facts.exit is not None and exit_.code is None and exit_.signal is None
    known = AttemptFacts(
        workload=order.spec.workload,
        events=tuple(seen),
        event_lines=tuple(log.lines),
        trials=tuple(trial.facts for trial in trials),
        logs=logs.texts,
        holes=logs.holes,
        unread=logs.unread,
        exit_code=exit_.code,
        signal=exit_.signal,
        oom_killed=exit_.oom_killed,
        engine_failure=engine,
        timed_out=facts.timeout[0] if facts.timeout else None,
        # a stop that came after the driver's own good end changes nothing
        cancelled=facts.stopped and not ended_itself,
        interrupted=facts.interrupted is not None or lost or (facts.timeout is None and _cut_off(seen, exit_)),
        patched=order.patch is not None,
        patch_files=patchlint.read(order.patch).paths if order.patch is not None else (),
        min_window_s=order.settings.min_window_s,
        validity=order.settings.validity,
        machine=facts.machine,
    )
    found = judge(known)
    if known.engine_failure is not None or _stands_on_a_full_disk(found):
        return found
    if facts.starved is None:
        # no runner saw it; a patch that fills the disk itself is on hold after three times
        told = exit_.code == EXIT_FULL or (known.last("fail") or {}).get("disk_full") is True
        return judge(replace(known, interrupted=True, unseen_full=True)) if told else found
    said = f"{facts.starved} was full while the attempt ran"
    full = judge(replace(known, engine_failure=("disk_full", said)))
    assert full.diagnosis is not None
    own = sum(run_dir.size(name) for name in run_dir.names())
    if own < OWN_DOING:
        return full
    proof = Evidence(_RUN_DIRECTORY, 0, f"{said}, and its own files have {own / 1024**2:.0f} MiB")
    return replace(full, diagnosis=replace(full.diagnosis, evidence=proof))


def _stands_on_a_full_disk(found: Verdict) -> bool:
    """A success with all that proves it, or an end that was made from outside; all else may be the disk's doing."""
    if found.outcome == "success":
        return all(flag.effect != "invalidates" for flag in found.flags)
    return found.outcome not in {"failed", "timed_out"}


def _cut_off(seen: list[dict[str, Any]], exit_: Exit) -> bool:
    """The driver ended without a last word: the engine restarted, or the host, or SIGKILL. Nobody's fault.

    Who sent SIGKILL is not known: an engine that stopped with its containers and forgot it, an operator, a kernel
    without memory. A patch that kills its driver gains nothing by it: three interruptions put its job on hold.
    """
    started = next((event.get("boot_id") for event in seen if event["event"] == "start"), None)
    rebooted = isinstance(started, str) and started != boot_id()
    killed = exit_.signal == signal.SIGKILL and not exit_.oom_killed
    return (exit_.engine_away or rebooted or killed) and not any(event["event"] in {"end", "fail"} for event in seen)


@dataclass(frozen=True, slots=True)
class _Logs:
    """The logs of an attempt, open while it is judged."""

    texts: dict[str, LogBytes]
    holes: dict[str, int]
    unread: dict[str, str]


def _logs(order: Order, run_dir: RunDir, stack: contextlib.ExitStack) -> _Logs:
    planned = jobfile.trials(order.spec, order.settings)
    found = _Logs({}, {}, {})
    for name in (SETUP_LOG, SERVER_LOG, *(trial.log for trial in planned)):
        try:
            log = stack.enter_context(run_dir.log(name))
        except FileNotFoundError:
            continue
        except Hostile as error:
            found.unread[name] = str(error)
            continue
        if len(log):
            found.texts[name] = log
        if lost := log.hole():
            found.holes[name] = lost
    return found


def _trials(order: Order, run_dir: RunDir, seen: list[dict[str, Any]], logs: _Logs) -> tuple[Trial, ...]:
    """One row for each run of the client that ended, as the driver tells it; what it printed is parsed anew."""
    planned = {trial.index: trial for trial in jobfile.trials(order.spec, order.settings)}
    found: dict[int, Trial] = {}
    started: dict[int, float] = {}
    for event in seen:
        index = event.get("index")
        if event["event"] != "trial" or not isinstance(index, int) or index not in planned:
            continue
        if event.get("state") == "start":
            started[index] = float(event["at"])
            continue
        plan = planned[index]
        result = parse_client(
            order.spec.workload.mode,
            logs.texts.get(plan.log, b""),
            _safe(run_dir, plan.result) if plan.result else None,
        )
        argv = event.get("argv")
        found[index] = Trial(
            facts=TrialFacts(index, plan.counted, _int(event.get("exit_code")), result),
            argv=tuple(map(str, argv)) if isinstance(argv, list) else plan.argv,
            seed=plan.seed if event.get("seed") is not None else None,  # left out of an old client's argv
            signal=_int(event.get("signal")),
            seconds=float(event["at"]) - started[index] if index in started else None,
        )
    return tuple(found[index] for index in sorted(found))


def _int(value: object) -> int | None:
    """A code or signal that the store can hold; None for any other claim."""
    return value if isinstance(value, int) and abs(value) < 2**31 else None


def _safe(run_dir: RunDir, name: str) -> bytes:
    try:
        return run_dir.read(name)
    except Hostile:
        return b""
