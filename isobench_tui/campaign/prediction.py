"""`prediction.jsonl`, as agents write it beside (or in place of) their patch: SWE-bench's shape, one object a line.

{"instance_id": "vllm-project__vllm-25373b6", "model_patch": "diff --git …", "model_name_or_path": "gpt-5"}
"""

from __future__ import annotations

import json

from isobench_tui.campaign.files import Unreadable


def patch(data: bytes) -> bytes:
    """The patch in a prediction file that holds one, with the final newline that such files often lost.

    Raises Unreadable if there is not exactly one record, or no patch in it.
    """
    lines = [line for line in data.split(b"\n") if line.strip()]
    if len(lines) != 1:
        raise Unreadable(f"a prediction file with {len(lines)} records, not one")
    try:
        record = json.loads(lines[0].decode("utf-8-sig"))
        text = record["model_patch"]
        found: bytes = text.encode("utf-8")
    except UnicodeError as error:
        raise Unreadable("a prediction file that is not UTF-8") from error
    except RecursionError as error:
        raise Unreadable("a prediction file that is nested too deeply") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable("a prediction file without model_patch") from error
    return found if not found or found.endswith(b"\n") else found + b"\n"
