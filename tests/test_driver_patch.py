"""The patch: applied strictly by git or patch(1), proved file by file, and imported by what is measured."""

from __future__ import annotations

import os
import py_compile
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fakevllm import ENGINE, FASTER, Run, diff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isobench_tui.engine import driver
from isobench_tui.engine.job import PatchJob

NEW = "def more():\n    return 1\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def path_with(folder: Path, *programs: str) -> dict[str, str]:
    """An environment whose PATH holds only these programs."""
    folder.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return {"PATH": str(folder)}


def moving(how: str, source: str, target: str, header: str = "") -> str:
    """A git diff that renames or copies a file and changes nothing in it; `header` lies about its names."""
    names = header or f"a/{source} b/{target}"
    return f"diff --git {names}\nsimilarity index 100%\n{how} from {source}\n{how} to {target}\n"


def refused(run: Run, text: str | bytes, failure: str = "patch_not_applied", **options: Any) -> str:
    """Run with a patch that must not be measured; the reason."""
    before = snapshot(run.tree)
    assert run.run(patch=run.patch(text), **options) == 1
    assert snapshot(run.tree) == before
    event, fail = run.one("patch"), run.one("fail")
    assert (event["applied"], event["failure"]) == (False, failure)
    assert (fail["phase"], fail["failure"], fail["reason"]) == ("setup", failure, event["reason"])
    assert not run.all("trial")
    return str(fail["reason"])


def snapshot(tree: Path) -> dict[str, bytes]:
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file() and p.suffix != ".pyc"}


def test_a_patch_is_applied_proved_and_imported(run: Run) -> None:
    text = "From: an agent\n\n" + FASTER + diff("vllm/more.py", None, NEW)
    assert run.run(run.trial("rate"), patch=run.patch(text)) == 0
    event = run.one("patch")
    assert (event["applied"], event["method"]) == (True, "git")
    after = ENGINE.replace("100", "300")
    assert event["files"] == [
        {"path": "vllm/engine.py", "sha256": sha256(after.encode()).hexdigest()},
        {"path": "vllm/more.py", "sha256": sha256(NEW.encode()).hexdigest()},
    ]
    assert event["imported"] == ["vllm/engine.py", "vllm/more.py"]
    assert "rate 300" in run.log("client-00.log")


@pytest.mark.parametrize("broken", [False, True])
def test_inside_a_repository(run: Run, broken: bool) -> None:
    """There `git apply` alone returns 0 and changes nothing; a broken .git file makes it fail."""
    subprocess.run(["git", "init", "-q", run.root], check=True)
    if broken:
        (run.tree / ".git").write_text("gitdir: /nonexistent\n")
    assert run.run(run.trial("rate"), patch=run.patch(FASTER)) == 0
    assert run.one("patch")["applied"] is True
    assert "rate 300" in run.log("client-00.log")


def test_the_configuration_of_a_repository_is_not_obeyed(run: Run) -> None:
    subprocess.run(["git", "init", "-q", run.tree], check=True)
    subprocess.run(["git", "-C", run.tree, "config", "apply.whitespace", "fix"], check=True)
    after = ENGINE.replace("100", "300   ")
    assert run.run(patch=run.patch(diff("vllm/engine.py", ENGINE, after))) == 0
    assert (run.tree / "vllm/engine.py").read_text() == after


def test_without_git_patch_does_it(run: Run, tmp_path: Path) -> None:
    env = path_with(tmp_path / "bin", "patch", "sh")
    text = FASTER + diff("vllm/more.py", None, NEW) + diff("docs/index.md", "one\ntwo\nthree\n", None)
    assert run.run(run.trial("rate"), patch=run.patch(text), env=env) == 0
    event = run.one("patch")
    assert (event["applied"], event["method"]) == (True, "patch")
    assert "rate 300" in run.log("client-00.log")
    assert not list(run.tree.rglob("*.orig"))


def test_with_neither_it_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert run.run(patch=run.patch(FASTER), env={"PATH": str(tmp_path / "none")}) == 1
    assert "neither git nor patch" in run.one("fail")["reason"]


def test_lines_that_are_not_there(run: Run) -> None:
    reason = refused(run, FASTER.replace("-RATE = 100", "-RATE = 50"))
    assert "vllm/engine.py: hunk 1" in reason


def test_nothing_is_applied_if_one_hunk_fails(run: Run) -> None:
    refused(run, FASTER + diff("client.py", "no such line\nat all\n", "x\n"))


@pytest.mark.parametrize("name", ["../outside.py", "vllm/../../outside.py", ".git/config", "vllm//x.py"])
def test_paths_that_leave_the_tree(run: Run, name: str) -> None:
    assert "not a path inside the tree" in refused(run, diff(name, None, NEW))
    assert not (run.root / "outside.py").exists()


INSIDE = "vllm/engine.py"
SAME = f"a/{INSIDE} b/{INSIDE}"
MOVES = {
    "out": (INSIDE, "../outside.py"),
    "far out": (INSIDE, "../../../../../../../../../../../../../../../../OUTSIDE"),
    "out of a folder": (INSIDE, "vllm/../../outside.py"),
    "absolute": (INSIDE, "OUTSIDE"),
    "quoted": (INSIDE, '"\\056\\056/outside.py"'),
    "in": ("../secret.py", "vllm/more.py"),
    "absolute in": ("SECRET", "vllm/more.py"),
    "under a header that lies": (INSIDE, "../outside.py", SAME),
    "in under a header that lies": ("../secret.py", INSIDE, SAME),
    "into git": (INSIDE, ".git/hooks/pre-commit"),
}


@pytest.mark.parametrize("program", ["git", "patch"])
@pytest.mark.parametrize("how", ["rename", "copy"])
@pytest.mark.parametrize("where", MOVES)
def test_renames_and_copies_that_leave_the_tree(run: Run, tmp_path: Path, where: str, how: str, program: str) -> None:
    outside, secret = run.root / "outside.py", run.root / "secret.py"
    secret.write_text("SECRET = 1\n")
    named = [text.replace("OUTSIDE", str(outside)).replace("SECRET", str(secret)) for text in MOVES[where]]
    options: dict[str, Any] = {"env": path_with(tmp_path / "bin", "patch", "sh")} if program == "patch" else {}
    assert "not a path inside the tree" in refused(run, FASTER + moving(how, *named), **options)
    assert not outside.exists()
    assert secret.read_text() == "SECRET = 1\n"


@pytest.mark.parametrize("program", ["git", "patch"])
def test_the_old_words_for_a_rename(run: Run, tmp_path: Path, program: str) -> None:
    """git still takes `rename old` and `rename new`."""
    options: dict[str, Any] = {"env": path_with(tmp_path / "bin", "patch", "sh")} if program == "patch" else {}
    text = f"diff --git a/{INSIDE} b/../outside.py\nsimilarity index 100%\n"
    refused(run, f"{text}rename old {INSIDE}\nrename new ../outside.py\n", **options)
    assert not (run.root / "outside.py").exists()


def test_a_file_that_images_lack_takes_nothing_out_with_it(run: Run) -> None:
    """Left out as any hunk for a file under docs/ that is not there."""
    assert run.run(patch=run.patch(FASTER + moving("rename", "docs/none.md", "../outside.md"))) == 0
    assert not (run.root / "outside.md").exists()


def test_an_absolute_path(run: Run) -> None:
    text = FASTER.replace("a/vllm/engine.py", str(run.tree / "vllm/engine.py"))
    assert "not a path inside the tree" in refused(run, text.split("\n", 1)[1])


def test_symbolic_links(run: Run) -> None:
    (run.root / "outside.py").write_text(ENGINE)
    (run.tree / "vllm/engine.py").unlink()
    (run.tree / "vllm/engine.py").symlink_to("../../outside.py")
    assert "not a regular file" in refused(run, FASTER)
    assert (run.root / "outside.py").read_text() == ENGINE


def test_a_folder_that_is_a_link(run: Run) -> None:
    (run.tree / "linked").symlink_to(run.root)
    assert "a symbolic link is on the way" in refused(run, diff("linked/x.py", None, NEW))


@pytest.mark.parametrize(
    "text",
    [
        diff("link", None, "/etc/passwd").replace("100644", "120000"),
        diff("module", None, "Subproject commit 1234\n").replace("100644", "160000"),
    ],
)
def test_links_and_submodules_in_the_diff(run: Run, text: str) -> None:
    assert "are not applied" in refused(run, text)


def test_binary_changes(run: Run) -> None:
    text = diff("x.bin", None, "") + "index 0000000..1234567\nBinary files /dev/null and b/x.bin differ\n"
    assert "binary" in refused(run, FASTER + text)


def test_a_file_that_exists_already(run: Run) -> None:
    assert "exists already" in refused(run, diff("vllm/engine.py", None, NEW))


def test_a_file_that_is_absent(run: Run) -> None:
    assert "not in" in refused(run, diff("requirements.txt", "a\n", "b\n"))


@pytest.mark.parametrize("text", [FASTER.replace(",6 +", ",7 +"), FASTER.split("@@")[0], "@@ -1 +1 @@\n-a\n+b\n"])
def test_damaged_diffs(run: Run, text: str) -> None:
    refused(run, text)


def test_a_file_that_is_not_the_one_of_the_job(run: Run) -> None:
    job = run.patch(FASTER)
    assert run.run(patch=PatchJob(path=job.path, sha256="0" * 64)) == 1
    assert "sha256" in run.one("fail")["reason"]


@pytest.mark.parametrize("name", ["vllm/kernels.cu", "csrc/new.py", "setup.py", "CMakeLists.txt"])
def test_compiled_sources(run: Run, name: str) -> None:
    before = "int x;\n" if name.endswith(".cu") else None
    reason = refused(run, FASTER + diff(name, before, "int y;\n"), "patch_not_compiled")
    assert name in reason
    assert run.one("patch")["compiled"] == [name]


@pytest.mark.parametrize(
    "text", ["", "\n", "no diff at all\n", diff("model_patch.diff", None, "") + "index 0000000..e69de29\n"]
)
def test_an_empty_patch_is_said_and_the_runner_decides(run: Run, text: str) -> None:
    assert run.run(run.trial("rate"), patch=run.patch(text)) == 0
    event = run.one("patch")
    assert (event["applied"], event["failure"]) == (False, "patch_empty")
    assert "rate 100" in run.log("client-00.log")


def test_hunks_for_files_that_images_lack_are_left_out(run: Run) -> None:
    docs = diff("docs/index.md", "one\ntwo\nthree\n", "one\n2\nthree\n")
    absent = diff("tests/test_x.py", "a\n", "b\n") + diff("benchmarks/new.cu", None, "int x;\n")
    assert run.run(run.trial("rate"), patch=run.patch(absent + FASTER + docs + diff("docs/new.md", None, "n\n"))) == 0
    event = run.one("patch")
    assert event["trimmed"] == ["benchmarks/new.cu", "tests/test_x.py"]
    assert [f["path"] for f in event["files"]] == ["docs/index.md", "docs/new.md", "vllm/engine.py"]
    assert not (run.tree / "tests").exists()
    assert "tests/test_x.py" not in run.log("patch-trimmed.diff")
    assert "rate 300" in run.log("client-00.log")


def test_nothing_is_left_once_it_is_trimmed(run: Run) -> None:
    assert run.run(patch=run.patch(diff("tests/test_x.py", "a\n", "b\n"))) == 0
    assert run.one("patch")["failure"] == "patch_empty"


def test_a_patched_file_that_would_not_be_imported(run: Run) -> None:
    package = run.tree / "vllm/engine"
    package.mkdir()
    (package / "__init__.py").write_text("RATE = 1\n")  # wins over engine.py
    assert run.run(patch=run.patch(FASTER)) == 1
    event = run.one("patch")
    assert event["not_imported"] == ["vllm/engine.py"]
    assert event["failure"] == "patched_tree_not_imported"
    assert run.one("fail")["failure"] == "patch_not_applied"


def test_bytecode_that_is_never_checked_does_not_hide_the_patch(run: Run) -> None:
    py_compile.compile(
        str(run.tree / "vllm/engine.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert run.run(run.trial("rate"), patch=run.patch(FASTER)) == 0
    assert "rate 300" in run.log("client-00.log")


def test_lines_that_moved_are_found_if_they_are_unique(run: Run) -> None:
    (run.tree / "vllm/engine.py").write_text("# shifted\n" * 7 + ENGINE + "# more\n" * 3)
    text = diff(
        "vllm/engine.py",
        "# shifted\n" * 3 + ENGINE + "# more\n" * 3,
        "# shifted\n" * 3 + ENGINE.replace("100", "300") + "# more\n" * 3,
    )
    assert run.run(run.trial("rate"), patch=run.patch(text)) == 0
    assert "rate 300" in run.log("client-00.log")


def test_lines_that_moved_and_fit_twice_are_no_guess(run: Run) -> None:
    block = "def f():\n    a = 1\n    b = 2\n    return a\n"
    (run.tree / "vllm/engine.py").write_text("# new\n" + block + "#\n" + block + "RATE = 100\n")
    hunk = "@@ -4,4 +4,4 @@\n def f():\n-    a = 1\n+    a = 9\n     b = 2\n     return a\n"
    text = "--- a/vllm/engine.py\n+++ b/vllm/engine.py\n" + hunk
    assert "matches in 2 places" in refused(run, text)


def test_renames_copies_deletions_and_odd_names(run: Run) -> None:
    (run.tree / "vllm/été.py").write_text("X = 1\n")
    (run.tree / "vllm/empty.py").touch()
    work = run.root / "work"
    shutil.copytree(run.tree, work)
    git = ["git", "-C", str(work), "-c", "user.name=n", "-c", "user.email=e"]
    for argv in (["init", "-q"], ["add", "."], ["commit", "-qm", "base"]):
        subprocess.run([*git, *argv], check=True)
    (work / "vllm/engine.py").rename(work / "vllm/motor.py")
    (work / "vllm/motor.py").write_text(ENGINE.replace("100", "300"))
    (work / "vllm/été.py").write_text("X = 2")
    (work / "vllm/empty.py").unlink()
    (work / "vllm/a b.py").write_text("Y = 1\n")
    subprocess.run([*git, "add", "-A"], check=True)
    made = subprocess.run([*git, "diff", "--cached", "-M", "--binary"], check=True, capture_output=True).stdout
    assert b"rename from" in made
    assert run.run(patch=run.patch(made)) == 0
    event = run.one("patch")
    gone = {f["path"] for f in event["files"] if f["sha256"] is None}
    made_now = {f["path"] for f in event["files"]} - gone
    assert gone == {"vllm/empty.py", "vllm/engine.py"}
    assert made_now == {"vllm/a b.py", "vllm/motor.py", "vllm/été.py"}
    shutil.rmtree(work / ".git")
    assert snapshot(run.tree) == snapshot(work)


LINES = st.lists(st.sampled_from(["a\n", "b\n", "\n", "  c\r\n", "-- d\n", "++ e\n", "@@ f\n"]), max_size=14)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=LINES, after=LINES, shift=LINES, tail=st.booleans(), context=st.integers(1, 3))
def test_what_it_expects_is_what_git_makes(
    before: list[str], after: list[str], shift: list[str], tail: bool, context: int
) -> None:
    """Whatever the diff: where we accept it, git's result is ours; on the file it was made from, we accept it."""
    ends = ("", "") if tail else ("last", "lost")
    old, new = "".join(before) + ends[0], "".join(after) + ends[1]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in (("old", old), ("new", new)):
            (root / name).write_bytes(text.encode())
        made = (
            subprocess.run(
                ["git", "diff", "--no-index", f"-U{context}", "old", "new"],
                cwd=root,
                check=False,
                capture_output=True,
            )
            .stdout.replace(b"a/old", b"a/f")
            .replace(b"b/new", b"b/f")
        )
        if not made or not old or not new:
            return
        (root / "p.diff").write_bytes(made)
        for text in (old, "".join(shift) + old):
            (root / "f").write_bytes(text.encode())
            patch = driver.Patch(made, folder)
            try:
                patch.expect()
            except driver.Failed:
                assert text != old
                continue
            env = {"PATH": os.environ["PATH"], "GIT_DIR": "/dev/null"}
            done = subprocess.run(["git", "apply", "p.diff"], cwd=root, env=env, check=False, capture_output=True)
            if done.returncode == 0 and text == old:
                assert patch.expected["f"] == new.encode()
            if done.returncode == 0:
                assert patch.expected["f"] == (root / "f").read_bytes()
            else:
                assert text != old, done.stderr
