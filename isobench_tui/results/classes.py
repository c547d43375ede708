"""The failure classes by name, and who is to blame for each while nothing is known of the job's siblings."""

from __future__ import annotations

from typing import Final

from isobench_tui.results.models import Blame
from isobench_tui.results.rules import TABLE

DEFAULT_BLAME: Final[dict[str, Blame]] = {rule.failure: rule.blame for rule in TABLE}


def blame_for(failure: str, *, patched: bool) -> Blame:
    """Default blame of a class. What a patched process did to itself is undetermined until its baseline is known."""
    blame = DEFAULT_BLAME.get(failure, "undetermined")
    return "undetermined" if patched and blame == "capacity" else blame
