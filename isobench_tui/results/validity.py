"""Findings about whether a result counts, each with the number that raised it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isobench_tui.results.facts import AttemptFacts, event_names, event_text
from isobench_tui.results.models import Flag


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _of_patch(facts: AttemptFacts) -> Iterator[Flag]:
    event: Mapping[str, object] = facts.last("patch") or {}
    if not event and not facts.patched:
        return
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


def _of_trials(facts: AttemptFacts) -> Iterator[Flag]:
    counted = [trial for trial in facts.trials if trial.counted]
    lost = [f"{trial.result.failed} of {trial.result.asked or '?'}" for trial in counted if trial.result.failed]
    if lost:
        yield Flag("failed_requests", "invalidates", f"requests failed: {', '.join(lost)}")
    windows = [trial.result.window_s for trial in counted if trial.result.window_s is not None]
    if windows and min(windows) < facts.min_window_s:
        yield Flag("short_window", "notes", f"measured for {min(windows):.3g} s, less than {facts.min_window_s:g} s")
    differing = [f"{words} (trial {trial.index})" for trial in counted for words in trial.result.disagreements]
    if differing:
        yield Flag("metrics_disagree", "notes", f"{len(differing)} values: {'; '.join(differing[:3])}")


def flags(facts: AttemptFacts) -> tuple[Flag, ...]:
    """All findings about the attempt, each name at most once."""
    out = [*_of_patch(facts), *_of_trials(facts)]
    override = facts.last("override")
    if override is not None and override.get("applied") is True:
        model, use = event_text(override, "model"), event_text(override, "use")
        why = event_text(override, "reason")
        out.append(Flag("model_overridden", "notes", f"{use} ran instead of {model}" + (f": {why}" if why else "")))
    return tuple(out)
