"""The documents that are made from the code are those that the code makes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def test_pages_made_from_the_code_are_current() -> None:
    """Renew it with `python scripts/make_docs.py`."""
    spec = importlib.util.spec_from_file_location("make_docs", REPO / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for page, render in module.PAGES.items():
        assert (REPO / "docs" / page).read_text() == render(), page


def test_the_page_of_the_flags_has_every_flag_with_its_effects() -> None:
    page: dict[str, set[str]] = {}
    name = ""
    for row in (REPO / "docs" / "validity.md").read_text().splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) < 5 or cells[1] == "flag" or not cells[2].startswith(("invalidates", "notes")):
            continue
        name = cells[1].strip("`") or name
        page.setdefault(name, set()).update(word for word in ("invalidates", "notes") if word in cells[2])
    raised: dict[str, set[str]] = {}
    for path in (REPO / "isobench_tui" / "results").glob("*.py"):
        for found in re.finditer(r'Flag\(\s*"(\w+)",\s*([^,]+)', path.read_text()):
            raised.setdefault(found[1], set()).update(re.findall(r"invalidates|notes", found[2]))
    assert page == raised
