"""The failure classes by name, and who is to blame for each while nothing is known of the job's siblings."""

from __future__ import annotations

from typing import Final

from isobench_tui.results.models import Blame

DEFAULT_BLAME: Final[dict[str, Blame]] = {
    # before anything of the benchmark ran
    "image_missing": "infra",
    "pull_failed": "infra",
    "disk_full": "infra",
    "engine_error": "infra",
    "driver_mismatch": "infra",
    "gated_auth": "config",
    "model_not_found": "config",
    "env_broken": "image",
    "bench_script_missing": "harness",
    "bench_script_deprecated": "config",
    "harness_misconfig": "harness",
    "port_in_use": "infra",
    # facts about the patch: whose fault it is depends on the base that it was written for
    "patch_empty": "undetermined",
    "patch_not_applied": "undetermined",
    "patch_not_compiled": "undetermined",
    # the measured processes
    "host_oom": "capacity",
    "server_crash": "undetermined",
    "server_timeout": "undetermined",
    "client_failed": "undetermined",
    "no_metrics": "undetermined",
    "timeout": "undetermined",
    # somebody's decision or nobody's
    "cancelled": "undetermined",
    "interrupted": "undetermined",
    "unknown": "undetermined",
}


def blame_for(failure: str, *, patched: bool) -> Blame:
    """Default blame of a class. What a patched process did to itself is undetermined until its baseline is known."""
    if patched and failure == "host_oom":
        return "undetermined"
    return DEFAULT_BLAME.get(failure, "undetermined")
