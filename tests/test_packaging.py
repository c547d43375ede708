"""The wheel that users install: built from this tree and from the sdist, complete, and the demo runs out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from isobench_tui import __version__

REPO = Path(__file__).parents[1]
NAME = f"isobench_tui-{__version__}"
SOURCES = (
    "isobench_tui",
    "examples",
    "tests",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
    ".gitignore",
)
GENERATED = shutil.ignore_patterns(".*_cache", ".hypothesis")


def run(*argv: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def build(tree: Path, kind: str, out: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out), cwd=tree)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, the wheel, and the sdist unpacked; built from a copy in which the demo has run."""
    scratch = tmp_path_factory.mktemp("packaging")
    tree, out = scratch / "tree", scratch / "dist"
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, tree / name, ignore=GENERATED)
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy2(REPO / name, tree / name)
    run(sys.executable, "-m", "compileall", "-q", "examples/demo/tree", cwd=tree)
    build(tree, "sdist", out)
    build(tree, "wheel", out)
    run("tar", "-xzf", str(out / f"{NAME}.tar.gz"), cwd=scratch)
    (scratch / NAME).rename(out / "unpacked")
    return out


@pytest.fixture(scope="module")
def installed(dist: Path) -> Path:
    """The wheel as pip lays it out, bytecode and all."""
    target = dist / "site"
    wheel = str(next(dist.glob("*.whl")))
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        wheel,
        cwd=dist,
    )
    return target


def isobench(installed: Path, *arguments: str, cwd: Path) -> str:
    """Run the installed package and not this tree; its dependencies are those of the tests."""
    return run(sys.executable, "-m", "isobench_tui", *arguments, cwd=cwd, PYTHONPATH=str(installed))


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_the_package_and_the_demo_and_no_bytecode(dist: Path) -> None:
    found = files(next(dist.glob("*.whl")))
    demo = REPO / "examples" / "demo"
    expected = {
        f"isobench_tui/{path.relative_to(REPO / 'isobench_tui')}": path for path in sources(REPO / "isobench_tui")
    }
    expected |= {f"isobench_tui/_demo/{path.relative_to(demo)}": path for path in sources(demo)}
    mine = {name: content for name, content in found.items() if ".dist-info/" not in name}
    assert sorted(mine) == sorted(expected)
    assert all(content == expected[name].read_bytes() for name, content in mine.items())
    assert "isobench_tui/_demo/tree/vllm/entrypoints/openai/api_server.py" in mine
    assert f"{NAME}.dist-info/licenses/LICENSE" in found


def sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_the_sdist_builds_the_same_wheel(dist: Path) -> None:
    build(dist / "unpacked", "wheel", dist / "again")
    assert files(next((dist / "again").glob("*.whl"))) == files(next(dist.glob("*.whl")))


def test_the_installed_package_plans_its_own_demo(installed: Path, tmp_path: Path) -> None:
    assert "simulated" in isobench(installed, "demo", "--help", cwd=tmp_path)
    assert isobench(installed, "--version", cwd=tmp_path) == f"isobench {__version__}\n"
    where = "from isobench_tui.cli.demo import campaign_file; print(campaign_file())"
    file = run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).strip()
    assert file == str(installed / "isobench_tui" / "_demo" / "campaign.toml")
    plan = isobench(installed, "plan", file, cwd=tmp_path)
    assert f"{installed}/isobench_tui/_demo/tree" in plan
