"""What must hold before an attempt touches the engine."""

from __future__ import annotations

from pathlib import Path

from isobench_tui.campaign.files import exists
from isobench_tui.campaign.models import JobSpec, Settings
from isobench_tui.campaign.patchlint import lint
from isobench_tui.campaign.repos import folders
from isobench_tui.campaign.settings import on_host
from isobench_tui.store import secrets


class Refused(Exception):
    """The attempt cannot run; `failure` is the class of why, `where` the phase that found it."""

    where = "preflight"

    def __init__(self, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


def check(spec: JobSpec, settings: Settings, patch: bytes | None) -> None:
    """Raises Refused for what only the operator can mend."""
    for model in folders(spec.workload):
        places = on_host(model, settings)
        if places and not any(exists(place) for place in places):
            raise Refused("model_not_found", f"the model {model} would be {places[0]}, which does not exist")
    if spec.dataset and not exists(Path(spec.dataset)):
        raise Refused("harness_misconfig", f"the data set {spec.dataset} is gone since the campaign was submitted")
    absent = secrets.missing(settings.secrets)
    if absent:
        raise Refused(
            "harness_misconfig", f"no value stored for {', '.join(absent)}; set it and `isobench run` again"
        )
    if spec.patch_sha256 is not None and _changes_nothing(patch or b""):
        raise Refused("patch_empty", "the patch changes no source file; a run would measure the baseline")


def _changes_nothing(patch: bytes) -> bool:
    return bool({finding.kind for finding in lint(patch)} & {"empty", "only_nested_patch"})
