"""The documents that are made from the code are those that the code makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def test_the_page_of_the_campaign_file_is_current() -> None:
    """Renew it with `python scripts/make_docs.py`."""
    spec = importlib.util.spec_from_file_location("make_docs", REPO / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (REPO / "docs" / "campaign-file.md").read_text() == module.render()
