"""Findings about whether a result counts, each with the number that raised it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from isobench_tui.campaign.models import Mode, Validity
from isobench_tui.results.facts import AttemptFacts, GpuFacts, MachineFacts, event_int, event_names, event_text
from isobench_tui.results.models import Flag, TrialFacts
from isobench_tui.results.text import clean, clip

TRANSIENT: Final = frozenset({"gpu_busy", "throttled"})
"""Flags of the machine's state at the time: where they alone invalidate a success, it is repeated once."""
_SLOWED: Final = ("hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown")
_CAPPED: Final = "sw_power_cap"


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _of_patch(facts: AttemptFacts) -> Iterator[Flag]:
    event: Mapping[str, object] = facts.last("patch") or {}
    if not event and not (facts.patched and facts.trials):
        return  # no patch, or it ended before its turn
    if event.get("failure") == "patch_empty":
        yield Flag("patch_empty", "invalidates", "the patch changes 0 files: this measures the baseline")
    elif event.get("applied") is not True:
        why = event_text(event, "reason") if event else "the driver reports no patch"
        yield Flag("patch_not_applied", "invalidates", why or "the driver does not say that the patch was applied")
    if trimmed := event_names(event, "trimmed"):
        yield Flag(
            "patch_trimmed", "notes", f"{len(trimmed)} files that the image lacks were left out: {_few(trimmed)}"
        )
    if compiled := event_names(event, "compiled"):
        yield Flag(
            "patch_not_compiled",
            "invalidates",
            f"{len(compiled)} compiled sources were patched but not built: {_few(compiled)}",
        )
    if unused := event_names(event, "not_imported"):
        yield Flag(
            "patched_tree_not_imported",
            "invalidates",
            f"{len(unused)} patched files are not those that the server imports: {_few(unused)}",
        )


def _of_client(facts: AttemptFacts) -> Iterator[Flag]:
    """The patch reaches into the program that measures it."""
    event: Mapping[str, object] = facts.last("client") or {}
    code = event_names(event, "files")
    changed = sorted(({*facts.patch_files} - {*event_names(facts.last("patch") or {}, "trimmed")}) & {*code})
    if facts.patched and changed:
        text = f"the patch changes {len(changed)} of {len(code)} files that measure it: {_few(changed)}"
        yield Flag("client_modified", "invalidates", text)


_OWN_WARMUPS: Final[dict[Mode, tuple[str, int]]] = {
    "serving": ("--num-warmups", 0),
    "latency": ("--num-iters-warmup", 10),
    "prefix_caching": ("", 1),
    "throughput": ("", 0),
}
"""Mode -> option and default of the iterations that vLLM's client runs before it measures."""


def _warmups(facts: AttemptFacts) -> int:
    """Runs before the first counted one, the client's own among them."""
    option, own = _OWN_WARMUPS[facts.workload.mode]
    argv = facts.workload.client
    for at, word in enumerate(argv):
        value = argv[at + 1] if word == option and at + 1 < len(argv) else word.removeprefix(f"{option}=")
        if option and word.partition("=")[0] == option and value.isdecimal():
            own = int(value)
    return own + sum(not trial.counted for trial in facts.trials)


def _cached(facts: AttemptFacts) -> Iterator[str]:
    """Runs of the client that found more of their prompts in the prefix cache than their server's first run did."""
    first: float | None = None
    for event in facts.events:
        if event.get("event") == "server":
            first = None
        if event.get("event") != "cache":
            continue
        index, queries, hits = (event_int(event, key) for key in ("index", "queries", "hits"))
        if not queries or hits is None or not 0 <= hits <= queries:
            continue
        share = hits / queries
        if first is not None and share - first > facts.validity.cache_reuse:
            told = f"{hits:,} of {queries:,} prompt tokens of trial {index} were cached"
            yield f"{told}, {first:.0%} of its server's first run"
        first = share if first is None else first


def _of_evidence(facts: AttemptFacts, counted: Sequence[TrialFacts]) -> Iterator[Flag]:
    """What should prove the result and is not there."""
    needed = [f"client-{trial.index:02d}.log" for trial in counted]
    needed += ["server.log"] if facts.workload.mode == "serving" else []
    lost = [facts.unread.get(name, f"0 bytes of {name}") for name in needed if name not in facts.logs]
    dropped = [
        f"{size:,} bytes of {name} were dropped to keep it below its cap" for name, size in facts.holes.items()
    ]
    if facts.workload.writes_result:
        dropped += [
            f"{said} (trial {trial.index})"
            for trial in counted
            for said in trial.result.problems
            if said.startswith("the result file")
        ]
    if lost or dropped:
        yield Flag("evidence_missing", "invalidates" if lost else "notes", "; ".join([*lost, *dropped][:3]))


def _of_trials(facts: AttemptFacts) -> Iterator[Flag]:
    counted = [trial for trial in facts.trials if trial.counted]
    lost = [f"{trial.result.failed} of {trial.result.asked or '?'}" for trial in counted if trial.result.failed]
    if lost:
        yield Flag("failed_requests", "invalidates", f"requests failed: {', '.join(lost)}")
    few = [trial for trial in counted if (trial.result.completed or 0) < facts.validity.min_requests]
    if facts.workload.mode == "serving" and few:
        done = min(trial.result.completed or 0 for trial in few)
        text = f"{done} request{'s' * (done != 1)} completed, fewer than {facts.validity.min_requests}"
        yield Flag("too_few_requests", "invalidates", text)
    warmups = _warmups(facts)
    if counted and warmups < facts.validity.min_warmups:
        yield Flag("no_warmup", "notes", f"{warmups} warm-ups before the first counted run")
    if cached := list(_cached(facts)):
        yield Flag("prefix_cache_reuse", "invalidates", "; ".join(cached[:3]))
    yield from _of_evidence(facts, counted)
    windows = [trial.result.window_s for trial in counted if trial.result.window_s is not None]
    if windows and min(windows) < facts.min_window_s:
        yield Flag("short_window", "notes", f"measured for {min(windows):.3g} s, less than {facts.min_window_s:g} s")
    differing = [f"{words} (trial {trial.index})" for trial in counted for words in trial.result.disagreements]
    if differing:
        yield Flag("metrics_disagree", "notes", f"{len(differing)} values: {'; '.join(differing[:3])}")


def passing(invalidating: Collection[str]) -> bool:
    """Whether flags of these names, which invalidate a success, speak of nothing but the machine at that time."""
    return bool(invalidating) and TRANSIENT.issuperset(invalidating)


def of_machine(machine: MachineFacts, limits: Validity) -> Iterator[Flag]:
    """What the monitors saw: foreign processes on the GPUs, and clocks that heat or power slowed down."""
    held = [
        f"{clip(clean(one.name), 60) or 'process'} ({one.pid}) held {one.memory / 2**20:,.0f} MiB of GPU {gpu.gpu}"
        for gpu in machine.gpus
        for one in gpu.foreign
        if one.memory > limits.busy_memory
    ]
    if held:
        yield Flag(
            "gpu_busy", "invalidates", "; ".join(held[:3]) + (f" and {len(held) - 3} more" if held[3:] else "")
        )
    slowed = [words for gpu in machine.gpus if (words := _slowed(gpu, _SLOWED, limits.throttled))]
    capped = [words for gpu in machine.gpus if (words := _slowed(gpu, (_CAPPED,), limits.power_capped))]
    if slowed or capped:
        yield Flag("throttled", "invalidates" if slowed else "notes", "; ".join([*slowed, *capped][:3]))


def _slowed(gpu: GpuFacts, reasons: tuple[str, ...], most: float) -> str:
    """For how long these reasons slowed a GPU down; empty up to the share `most` of the time."""
    seconds = {reason: gpu.throttled_s[reason] for reason in reasons if gpu.throttled_s.get(reason, 0) > 0}
    # reasons may hold at the same time: the longest is the least that any of them can have taken
    if not seconds or max(seconds.values()) <= most * gpu.watched_s:
        return ""
    told = ", ".join(f"{reason} {taken:.3g}" for reason, taken in seconds.items())
    text = f"GPU {gpu.gpu} was slowed down for {told} of {gpu.watched_s:.3g} s"
    if gpu.clock_mhz is not None:
        most_mhz = f" of {gpu.max_clock_mhz:,.0f}" if gpu.max_clock_mhz else ""
        text += f", at {gpu.clock_mhz:,.0f}{most_mhz} MHz in the median"
    return text


def flags(facts: AttemptFacts) -> tuple[Flag, ...]:
    """All findings about the attempt, each name at most once."""
    out = [*_of_patch(facts), *_of_client(facts), *_of_trials(facts)]
    if facts.machine is not None:
        out += of_machine(facts.machine, facts.validity)
    override = facts.last("override")
    if override is not None and override.get("applied") is True:
        model, use = event_text(override, "model"), event_text(override, "use")
        why = event_text(override, "reason")
        out.append(Flag("model_overridden", "notes", f"{use} ran instead of {model}" + (f": {why}" if why else "")))
    return tuple(out)
