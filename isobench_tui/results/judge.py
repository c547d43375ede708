"""The judgement of one attempt. Success is earned; all else gets a class, a sentence and the line that proves it.

Exit codes prove nothing on the serving path: `vllm bench serve` exits 0 without a server, with a wrong model, and
after the engine died, and counts streams that the crash cut as successful.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isobench_tui.campaign.models import Workload
from isobench_tui.results.classes import DEFAULT_BLAME, blame_for
from isobench_tui.results.clues import Context
from isobench_tui.results.diagnose import (
    EXIT_DEADLINE,
    EXIT_FULL,
    EXIT_STOPPED,
    explain,
    find_cause,
    frame_of,
    sentence,
)
from isobench_tui.results.errors import MAX_TEXT, last_line
from isobench_tui.results.facts import SETUP_LOG, AttemptFacts, event_int, event_text
from isobench_tui.results.life import dead_engine
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import ClientResult, Diagnosis, Evidence, Metric, Outcome, TrialFacts, Verdict
from isobench_tui.results.text import clip, line_at
from isobench_tui.results.validity import flags

__all__ = ["AttemptFacts", "dead_engine", "judge"]

_OF_SERVER = frozenset({"server_crash", "server_timeout", "port_in_use"})
_OF_CLIENT = frozenset({"client_failed", "no_metrics"})
_OUTCOMES: dict[str, Outcome] = {
    "cancelled": "cancelled",
    "interrupted": "interrupted",
    "timeout": "timed_out",
    "server_timeout": "timed_out",
}


def _quote(facts: AttemptFacts, event: Mapping[str, object]) -> Evidence | None:
    """The line of a log that a `fail` event points at, if it is there."""
    file, wanted = event_text(event, "file"), event_int(event, "line")
    log = facts.logs.get(file)
    if log is None or wanted is None:
        return None
    line = line_at(log, wanted)
    return None if line is None else Evidence(file, wanted, clip(line.strip(), MAX_TEXT))


def _search(facts: AttemptFacts, files: list[str]) -> Evidence | None:
    """The error nearest to the cause in the first of these logs that tells one, else the last word of the first."""
    present = [name for name in files if name in facts.logs]
    for name in present:
        if found := facts.searched.cause(name):
            return found
    return next((found for name in present if (found := last_line(name, facts.logs[name]))), None)


def _evidence(facts: AttemptFacts, failure: str, phase: str) -> Evidence | None:
    """The telling line of the logs that belong to the class, or else to the phase in which it ended."""
    server = facts.log_names("server")[::-1]
    client = facts.log_names("client")[::-1]
    if failure in _OF_SERVER or phase == "server":
        return _search(facts, server)
    if failure in _OF_CLIENT or phase == "measure":
        return _search(facts, [*client, *server])
    return _search(facts, [SETUP_LOG] if phase == "setup" else [*client, *server, SETUP_LOG])


def _evidence_of_claim(facts: AttemptFacts, fail: Mapping[str, object]) -> Evidence:
    """What proves a `fail` event: the log's own line where there is one, else the driver's word."""
    failure, reason, phase = (event_text(fail, key) for key in ("failure", "reason", "phase"))
    found = None
    if failure in _OF_SERVER | _OF_CLIENT:
        found = _evidence(facts, failure, phase)
    found = found or _quote(facts, fail)
    if found is None and (failure == "timeout" or phase == "setup"):
        found = _evidence(facts, failure, phase)
    return found or Evidence("events.jsonl", facts.line_of(fail), reason)


_LOGS_OF: Final[dict[str, tuple[str, ...]]] = {
    "server_crash": ("server",),
    "client_failed": ("client", "server"),
    "no_metrics": ("client", "server"),
    "unknown": ("client", "server", "setup"),
    "env_broken": ("setup",),
}
"""Class that says what ended -> the logs that may say why, in the order in which they are asked."""


def _diagnosis(facts: AttemptFacts, failure: str, reason: str, evidence: Evidence | None) -> Diagnosis:
    """The class as told, or the cause of it that a rule finds in the whole logs."""
    known = _known(failure)
    context, logs = _context(facts), facts.searched
    names = [name for start in _LOGS_OF.get(known, ()) for name in facts.log_names(start)[::-1]]
    # what the driver says of the image stands, but for faults of the machine under it
    found = find_cause(logs, names, context, whole_only=known == "env_broken")
    if found is not None and found.failure != known:
        blame = blame_for(found.failure, patched=facts.patched)
        return Diagnosis(found.failure, blame, sentence(reason, found.evidence), found.evidence, found.frame)
    frame = frame_of(logs, evidence, context) if evidence else ""
    return Diagnosis(known, blame_for(known, patched=facts.patched), reason, evidence, frame)


def _known(failure: str) -> str:
    return failure if failure in DEFAULT_BLAME else "unknown"


def _context(facts: AttemptFacts) -> Context:
    applied = (facts.last("patch") or {}).get("applied") is True
    load = facts.workload
    return Context((*load.server, *load.client), facts.patched and applied, facts.patch_files)


def _ended_from_outside(facts: AttemptFacts) -> Diagnosis | None:
    """Somebody or something ended the attempt, or it never began."""
    if facts.cancelled:
        return _diagnosis(facts, "cancelled", "The attempt was cancelled.", None)
    if facts.interrupted:
        reason = "The attempt was interrupted and has no result of its own."
        if facts.unseen_full:
            reason = "A disk was full while the attempt ran: why it did not succeed cannot be told."
        return _diagnosis(facts, "interrupted", reason, None)
    if facts.engine_failure is not None:
        failure, message = facts.engine_failure
        said = Evidence("engine", 0, event_text({"message": message}, "message", MAX_TEXT))
        if failure == "engine_error":
            failure = explain(said.text) or failure
        blame = blame_for(failure, patched=False)
        by = "" if failure == "gpu_busy_leaked" else "The engine says: "  # who holds a GPU is our own reading
        return Diagnosis(_known(failure), blame, f"{by}{clip(said.text, 300)}", said)
    if facts.timed_out is not None:
        phase = facts.timed_out
        failure = "server_timeout" if phase == "server" else "timeout"
        evidence = _evidence(facts, failure, phase) if phase in {"setup", "server", "measure"} else None
        return _diagnosis(facts, failure, f"The phase `{phase}` missed its deadline.", evidence)
    if facts.oom_killed:
        said = Evidence("inspect.json", 0, "OOMKilled: true")
        return _diagnosis(facts, "host_oom", "The kernel killed a process of the container for memory.", said)
    return None


def _server_death(facts: AttemptFacts) -> Diagnosis | None:
    """The server, or its engine, did not live through the measurement."""
    if facts.workload.mode != "serving":
        return None
    for name in facts.log_names("server"):
        if found := dead_engine(name, facts.logs[name]):
            cause = facts.searched.cause(name) or found
            return _diagnosis(facts, "server_crash", "The engine died while the server was in use.", cause)
    for event in facts.of("health"):
        code, status = event_int(event, "exit_code"), event_int(event, "status")
        if event.get("alive") is not True:
            reason = "The server's process had ended by the end of the measurement" + (
                f" (exit code {code})." if code is not None else "."
            )
        elif status != 200:
            reason = f"After the measurement /health answered {status if status is not None else 'nothing'}, not 200."
        else:
            continue
        return _diagnosis(facts, "server_crash", reason, _evidence(facts, "server_crash", "server"))
    return None


def _driver_failed(facts: AttemptFacts) -> Diagnosis | None:
    """The driver says what failed, or ended otherwise than with 0."""
    end = facts.last("end") or {}
    fail = facts.last("fail")
    if fail is not None:
        failure, reason = event_text(fail, "failure"), event_text(fail, "reason")
        if failure == "client_failed" and (death := _server_death(facts)):
            return death
        evidence = _evidence_of_claim(facts, fail)
        return _diagnosis(facts, failure, reason or f"The driver reports {failure or 'a failure'}.", evidence)
    phase, outcome = event_text(end, "phase"), event_text(end, "outcome")
    where = f" in the phase `{phase}`" if phase else ""
    if facts.exit_code == EXIT_DEADLINE:
        failure = "server_timeout" if phase == "server" else "timeout"
        return _diagnosis(facts, failure, f"A deadline passed{where}.", _evidence(facts, failure, phase))
    if facts.exit_code == EXIT_STOPPED or outcome == "stopped":
        return _diagnosis(facts, "interrupted", f"The driver was stopped from outside{where}.", None)
    # on a disk that was full no success is taken for granted: the driver must say so itself
    if (facts.exit_code == 0 and outcome in {"", "ok"}) or (facts.exit_code == EXIT_FULL and outcome == "ok"):
        return None
    if facts.signal is not None:
        how = f"was ended by signal {facts.signal}"
    else:
        how = "ended in an unknown way" if facts.exit_code is None else f"ended with code {facts.exit_code}"
    return _diagnosis(
        facts, "unknown", f"The driver {how}{where} and did not say why.", _evidence(facts, "unknown", phase)
    )


def _trial_failure(facts: AttemptFacts, trial: TrialFacts) -> tuple[str, str] | None:
    """Class and reason if this run of the client is no success. Of a warm-up only the exit code matters."""
    if trial.exit_code != 0:
        said = "has no exit code" if trial.exit_code is None else f"exited with {trial.exit_code}"
        return "client_failed", f"The client {said} (trial {trial.index})."
    return _unearned_result(facts.workload, trial.result) if trial.counted else None


def _unearned_result(load: Workload, result: ClientResult) -> tuple[str, str] | None:
    """Class and reason if what a client with exit code 0 printed and wrote is no success."""
    asked = load.asked if load.asked is not None and load.mode != "latency" else result.asked
    expected, got = load.output_tokens, result.output_tokens
    though = "though the client exited with 0."
    if result.failed:
        return "client_failed", f"{result.failed} of {asked or '?'} requests failed, {though}"
    if result.completed is not None and asked is not None and result.completed != asked:
        return "client_failed", f"{result.completed} of {asked} requests completed, {though}"
    if result.reason is not None:
        unread = [said for said in result.problems if said.startswith("the result file")]
        if unread and load.writes_result:
            return "parse_error", f"No metrics: {unread[0]}."
        return "no_metrics", f"No metrics: {result.reason}."
    if load.mode == "serving" and (result.completed is None or asked is None):
        return "no_metrics", "No metrics: the client does not say how many requests were sent and completed."
    if expected is not None and got is not None and got != expected:
        return "client_failed", f"{got} of {expected} output tokens arrived, {though}"
    return None


def _not_earned(facts: AttemptFacts) -> Diagnosis | None:
    """What is missing for a success after a driver that ended with 0."""
    if death := _server_death(facts):
        return death
    for trial in facts.trials:
        if failed := _trial_failure(facts, trial):
            log = f"client-{trial.index:02d}.log"
            return _diagnosis(facts, *failed, _search(facts, [log]))
    if not any(trial.counted for trial in facts.trials):
        return _diagnosis(facts, "no_metrics", "No metrics: no counted trial ran.", None)
    if facts.workload.mode == "serving" and not facts.of("health"):
        reason = "The driver did not say what /health answered after the measurement."
        return _diagnosis(facts, "unknown", reason, _evidence(facts, "server_crash", "server"))
    return None


def _means(trials: list[TrialFacts]) -> tuple[Metric, ...]:
    """Mean over the trials of every metric that each of them has."""
    values = [{item.name: item.value for item in trial.result.metrics} for trial in trials]
    shared = [name for name in values[0] if all(name in other for other in values)]
    return tuple(metric(name, sum(other[name] / len(values) for other in values)) for name in shared)


def judge(facts: AttemptFacts) -> Verdict:
    """Judge one attempt by its own facts alone; what depends on other attempts is decided elsewhere, later."""
    diagnosis = _ended_from_outside(facts) or _driver_failed(facts) or _not_earned(facts)
    raised = flags(facts)
    if diagnosis is None:
        means = _means([trial for trial in facts.trials if trial.counted])
        return Verdict("success", metrics=means, flags=raised)
    outcome = _OUTCOMES.get(diagnosis.failure, "failed")
    if outcome == "failed" and facts.exit_code == EXIT_DEADLINE and facts.engine_failure is None:
        outcome = "timed_out"
    return Verdict(outcome, diagnosis=diagnosis, flags=raised)
