"""What the house keeps that no linter checks: sizes, docstrings, the driver's imports, names in README, CHANGELOG."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isobench_tui import __version__
from isobench_tui.campaign.load import load
from isobench_tui.cli.parser import build
from isobench_tui.store import db
from isobench_tui.store.submit import submit
from isobench_tui.store.workspace import Workspace

REPO = Path(__file__).parents[1]
PACKAGE = REPO / "isobench_tui"
DRIVER = PACKAGE / "engine" / "driver.py"
CLASS_LINES, FUNCTION_LINES, MODULE_LINES = 300, 60, 450
SHORT = 5
"""Lines of a definition that its name and signature explain."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FOUND = sorted(PACKAGE.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def lines(node: Definition) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def where(path: Path, node: Definition | None = None) -> str:
    place = str(path.relative_to(REPO))
    return place if node is None else f"{place}:{node.lineno} {node.name}"


def definitions(path: Path) -> Iterator[Definition]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, Definition))


def explained(path: Path, node: Definition) -> bool:
    """Whether a reader learns what a public name is: by its docstring, or because little is left to say."""
    if ast.get_docstring(node) or node.name.startswith("_") or lines(node) <= SHORT:
        return True
    if isinstance(node, ast.ClassDef):
        # A record tells itself field by field; a class with methods does not.
        notes = [line for line in node.body if isinstance(line, ast.Expr)]
        return bool(notes) and all(isinstance(line, ast.AnnAssign | ast.Expr) for line in node.body)
    return node.name in ("main", path.stem)  # the module's docstring is about this very function


def test_everything_is_small_enough_to_read() -> None:
    large = []
    for path in FOUND:
        length = len(path.read_text().splitlines())
        # The driver is mounted alone into a container, so it is one file.
        if length > MODULE_LINES and path != DRIVER:
            large.append(f"{where(path)}: {length} lines, at most {MODULE_LINES}")
        for node in definitions(path):
            most = CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES
            if lines(node) > most:
                large.append(f"{where(path, node)}: {lines(node)} lines, at most {most}")
    assert not large, "\n".join(large)


def test_public_names_say_what_they_are() -> None:
    mute = [where(path) for path in FOUND if not ast.get_docstring(parse(path)) and path.stat().st_size]
    for path in FOUND:
        named = [node for node in parse(path).body if isinstance(node, Definition)]
        mute += [where(path, node) for node in named if not explained(path, node)]
    assert not mute, "no docstring:\n" + "\n".join(mute)


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    folders = ("isobench_tui", "benchmarks", "examples", "scripts")
    files = [path for folder in folders for path in (REPO / folder).rglob("*") if path.is_file()]
    left = [
        f"{path.relative_to(REPO)}:{number}: {line.strip()}"
        for path in files
        if path.suffix != ".pyc"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not left, "\n".join(left)


def test_the_driver_imports_the_standard_library_only() -> None:
    imported = set()
    for node in ast.walk(parse(DRIVER)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            imported.add(str(node.module).partition(".")[0])
    assert "json" in imported
    assert imported <= sys.stdlib_module_names


def test_status_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    connection = db.create_store(Workspace(tmp_path))
    with db.transaction(connection):
        submit(connection, load(REPO / "examples" / "demo" / "campaign.toml"), "test")
    connection.close()
    program = "import sys; from isobench_tui.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    argv = [sys.executable, "-c", program, "status", "--workspace", str(tmp_path)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    shown, _, modules = output.strip().rpartition("\n")
    assert "58eee5f2:baseline#1" in shown
    assert "isobench_tui.store.query" in modules.split()
    heavy = {"textual", "docker", "aiohttp", "scipy", "numpy", "pydantic", "asyncio"}
    assert not heavy & {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize(
    "path", [DRIVER, *sorted((REPO / "examples" / "demo" / "tree").rglob("*.py"))], ids=lambda path: path.name
)
def test_what_runs_in_an_image_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), str(path), feature_version=(3, 8))


def test_the_changelog_knows_this_version() -> None:
    heads = re.findall(r"^## \[([^\]]+)\]", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] in (__version__, "Unreleased"), "the newest entry stands first"
    assert __version__ in heads


def test_every_command_of_the_readme_exists() -> None:
    parser = build()
    commands = next(
        set(action.choices or ()) for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    text = (REPO / "README.md").read_text()
    code = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL)
    named = {name for block in code for name in re.findall(r"(?:^|[\s`/;&(])isobench ([a-z]+)", block)}
    assert named <= commands, f"README names {sorted(named - commands)}"
    for script in re.findall(r"(?:\./)?(scripts/\w+)", text):
        assert (REPO / script).exists(), f"README names {script}"
