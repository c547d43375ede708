"""`config`: the dashboard's settings, and which of file, environment and default won."""

from __future__ import annotations

import argparse
import json

from isobench_tui.store.answer import OK


def config(options: argparse.Namespace) -> int:
    """Show them. Raises SettingsError where one cannot be used."""
    from isobench_tui.tui import settings

    if options.path:
        print(settings.config_path())
        return OK
    found = settings.load()
    if options.json:
        print(json.dumps({"path": str(found.path), "settings": settings.as_json(found)}, indent=1))
        return OK
    absent = "" if found.path.exists() else " (does not exist)"
    print(f"# {found.path}{absent}\n[dashboard]")
    for name, one in settings.as_json(found).items():
        value = json.dumps(one["value"])
        print(
            f"{name} = {value}".ljust(44) + f"# {one['source']}" if one["value"] is not None else f"# {name} is unset"
        )
    return OK
