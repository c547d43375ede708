"""Campaign files for the tests of `campaign`: a small one that loads, and ways to change it."""

from __future__ import annotations

from pathlib import Path

from isobench_tui.campaign.load import SpecError, load
from isobench_tui.campaign.models import Submission

COMMIT = "a" * 40
PARENT = "b" * 40
OTHER = "c" * 40
SERVE = "vllm bench serve --model facebook/opt-125m --dataset-name random --num-prompts 10"
HEAD = '[campaign]\nname = "one"\n'
IMAGES = '[images]\nbaseline = "reg.example/vllm:base-{parent:.12}"\nhuman = "reg.example/vllm:{commit}"\n'
DIFF = """diff --git a/vllm/core.py b/vllm/core.py
--- a/vllm/core.py
+++ b/vllm/core.py
@@ -1,2 +1,2 @@
 a = 1
-b = 2
+b = 3
"""


def task(command: str = SERVE, *, commit: str = COMMIT, parent: str = PARENT, more: str = "") -> str:
    return f"[[tasks]]\ncommit = '{commit}'\nparent = '{parent}'\nperf_command = '''{command}'''\n{more}\n"


def write(folder: Path, text: str | bytes, name: str = "campaign.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def loaded(folder: Path, text: str) -> Submission:
    return load(write(folder, text))


def refused(folder: Path, text: str | bytes) -> list[tuple[str, str]]:
    """(key path, what is wrong) of each problem; the whole message is one line per problem and names the file."""
    path = write(folder, text)
    try:
        load(path)
    except SpecError as error:
        lines = str(error).split("\n")
        assert len(lines) == len(error.problems)
        assert all(line.startswith(f"{path}: ") and line.isprintable() for line in lines), lines
        return [(problem.key, problem.what) for problem in error.problems]
    raise AssertionError("it loaded")
