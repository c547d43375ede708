"""What a campaign file says of itself, and the secrets that it names."""

from __future__ import annotations

import os

from isobench_tui.campaign.models import Settings, Submission
from isobench_tui.doctor.check import Check, fail, ok, warn
from isobench_tui.store import secrets
from isobench_tui.store.answer import USAGE
from isobench_tui.store.words import count_jobs


def problems(submission: Submission) -> Check:
    """What the campaign file's own check found."""
    found = {level: [one for one in submission.findings if one.level == level] for level in ("error", "warning")}
    said = f"{submission.name}: {count_jobs(len(submission.jobs))}"
    plan = f"isobench plan {submission.spec_path}"
    if found["error"]:
        first = found["error"][0]
        return fail("campaign", f"{said}; {first.where}: {first.text}", plan, code=USAGE)
    if found["warning"]:
        return warn("campaign", f"{said}, warnings: {len(found['warning'])}", plan)
    return ok("campaign", said)


def stored_secrets(settings: Settings) -> Check:
    """Whether each secret has a value, stored or in the environment of `isobench run`."""
    names = settings.secrets
    if not names:
        return ok("secrets", "the campaign names none")
    absent = [name for name in secrets.missing(names) if not os.environ.get(name)]
    if absent:
        do = f"export {absent[0]}=…   # in the shell of `isobench run`, which stores it 0600"
        return fail("secrets", f"no value for {', '.join(absent)}", do, code=USAGE)
    return ok("secrets", f"{', '.join(names)}: a value is there")
