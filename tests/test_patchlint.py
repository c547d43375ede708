"""Patch lint: what it says about the patches that agents really hand in."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_files import DIFF
from hypothesis import given, settings
from hypothesis import strategies as st

from isobench_tui.campaign.patchlint import lint, read

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "iso-bench" / "model_patch.b690e348.trae_gpt5.diff"
NESTED = (
    "diff --git a/model_patch.diff b/model_patch.diff\nnew file mode 100644\nindex 0000000..e69de29\n"
    "--- /dev/null\n+++ b/model_patch.diff\n@@ -0,0 +1,3 @@\n+diff --git a/csrc/x.cu b/csrc/x.cu\n+--- a/csrc/x.cu\n"
    "+++++ b/csrc/x.cu\n"
)


def kinds(text: str | bytes) -> list[str]:
    return [finding.kind for finding in lint(text.encode() if isinstance(text, str) else text)]


def changing(path: str) -> str:
    return DIFF.replace("vllm/core.py", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["empty"]),
        (" \n\n", ["empty"]),
        ("I could not find an optimisation.\n", ["not_a_diff"]),
        ("\0\1\2", ["not_a_diff"]),
        (DIFF, []),
        (DIFF.replace("\n", "\r\n"), []),
        (DIFF.split("\n", 1)[1], []),
        ("prose before\n" + DIFF + "-- \n2.39.0\n", []),
        (NESTED, ["only_nested_patch"]),
        (NESTED.split("---", maxsplit=1)[0], ["only_nested_patch"]),
        (DIFF + NESTED, ["nested_patch"]),
        (NESTED + DIFF, ["nested_patch"]),
        ("diff --git a/x.py b/x.py\nindex 1..2 100644\n", ["empty"]),
        (changing("csrc/attention/kernel.cu"), ["compiled_sources"]),
        (changing("csrc/notes.txt"), ["compiled_sources"]),
        (changing("vllm/x.hpp"), ["compiled_sources"]),
        (changing("setup.py"), ["compiled_sources"]),
        (changing("CMakeLists.txt"), ["compiled_sources"]),
        (changing("vllm/cu.py"), []),
        (changing("benchmarks/benchmark_serving.py"), ["client_modified"]),
        (changing("vllm/benchmarks/serve.py"), ["client_modified"]),
        (changing("../../etc/cron.d/x"), ["unsafe_path"]),
        ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", ["unsafe_path"]),
        (DIFF.replace("-1,2 +1,2", "-1,9 +1,9"), ["truncated"]),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n", ["binary"]),
        ("diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 3\nKcmZ\n\n", ["binary"]),
        ("diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", []),
        ("diff --git a/x b/../../x\nsimilarity index 100%\nrename from x\nrename to ../../x\n", ["unsafe_path"]),
        ("diff --git a/x b/x\nsimilarity index 100%\nrename from x\nrename to ../../etc/x\n", ["unsafe_path"]),
        ("diff --git a/x b/x\nsimilarity index 100%\nrename from x\nrename to /etc/x\n", ["unsafe_path"]),
        ("diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to ../y\n", ["unsafe_path"]),
        ("diff --git a/x b/y\nsimilarity index 100%\ncopy from /etc/passwd\ncopy to y\n", ["unsafe_path"]),
        ('diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to "\\056\\056/y"\n', ["unsafe_path"]),
        ("diff --git a/x b/y\nsimilarity index 100%\nrename old x\nrename new ../y\n", ["unsafe_path"]),
        ("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", []),
    ],
)  # fmt: skip
def test_findings(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


def test_lines_of_a_hunk_are_not_taken_for_headers() -> None:
    text = "--- a/x.sql\n+++ b/x.sql\n@@ -1,2 +1,2 @@\n--- a/csrc/old.cu\n+++ b/csrc/new.cu\n x\n"
    assert read(text.encode()).paths == ("x.sql",)
    assert kinds(text) == []


def test_every_finding_names_its_files() -> None:
    both = changing("csrc/a.cu") + changing("benchmarks/b.py") + changing("vllm/c.py")
    assert [(finding.kind, finding.paths) for finding in lint(both.encode())] == [
        ("compiled_sources", ("csrc/a.cu",)),
        ("client_modified", ("benchmarks/b.py",)),
    ]


def test_new_deleted_and_oddly_named_files() -> None:
    text = (
        'diff --git "a/caf\\303\\251.py" "b/caf\\303\\251.py"\nnew file mode 100644\n--- /dev/null\n'
        '+++ "b/caf\\303\\251.py"\n@@ -0,0 +1 @@\n+x\n'
        "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "\\ No newline at end of file\n"
    )
    assert read(text.encode()).paths == ("café.py", "old.py")
    assert kinds(text) == []


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real patch")
def test_a_real_patch_of_nothing_but_itself() -> None:
    assert kinds(SHARED.read_bytes()) == ["only_nested_patch"]


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from([*DIFF.encode().splitlines(), *NESTED.encode().splitlines(), b"@@ -1 +1 @@", b"\\ No"])
        | st.binary(max_size=10),
        max_size=20,
    ).map(b"\n".join)
)
@settings(max_examples=300, deadline=None)
def test_wild_patches_never_raise(data: bytes) -> None:
    read(data)
    for finding in lint(data):
        assert finding.text
