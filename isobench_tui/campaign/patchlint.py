"""Reads an agent's diff before anything is spent on it. It judges nothing: the run happens, the finding beside it.

Real patches of this kind: 0 bytes; a diff of nothing but `model_patch.diff`; a diff that contains itself; hunks for
compiled sources that an image with built wheels can never see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "empty",
    "not_a_diff",
    "only_nested_patch",
    "nested_patch",
    "compiled_sources",
    "binary",
    "unsafe_path",
    "client_modified",
    "truncated",
]

NESTED = "model_patch.diff"
"""The name under which agents leave their own output in the tree that they diff."""

_COMPILED = re.compile(r"(?:.*/)?csrc/.*|.*\.(?:cu|cuh|cpp|cc|cxx|c|h|hpp|hip|inl|pyx|cmake|rs)")
_BUILD_FILES = {"setup.py", "CMakeLists.txt"}
_CLIENT = re.compile(r"(?:.*/)?(?:benchmarks/.*|vllm/entrypoints/cli/benchmark/.*)")
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_GIT = re.compile(rb"diff --git (\"a/.*\"|a/.*?) (\"b/.*\"|b/.*)")
_RENAMES = (b"rename from ", b"rename to ", b"copy from ", b"copy to ", b"rename old ", b"rename new ")


@dataclass(frozen=True, slots=True)
class PatchFinding:
    """One remark about a patch. Every one of them is a warning."""

    kind: Kind
    text: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patch:
    """What a diff says that it touches."""

    paths: tuple[str, ...]
    """In order of appearance, without `a/` and `b/`; /dev/null left out."""
    hunks: int
    """Text hunks and binary ones."""
    binary: bool
    truncated: bool
    """The last hunk ends before its header says so."""
    changes: frozenset[str]
    """Paths with at least one hunk, rename or change of mode."""


def read(data: bytes) -> Patch:
    """Parse a unified or git diff; never raises. Lines inside hunks are not taken for headers."""
    paths: dict[str, None] = {}
    changes: set[str] = set()
    hunks, binary, left = 0, False, (0, 0)
    current = ""
    for line in data.split(b"\n"):
        if left != (0, 0):
            after = _inside(line, left)
            if after is not None:
                left = after
                continue
            break
        git, hunk = _GIT.match(line), _HUNK.match(line)
        if git:
            current = _name(git[2])
            paths.update(dict.fromkeys([_name(git[1]), current]))
        elif hunk:
            left = (_count(hunk[1]), _count(hunk[2]))
            hunks += 1
            changes.add(current)
        elif line.startswith((b"--- ", b"+++ ")):
            name = _name(line[4:].split(b"\t")[0])
            current = name or current
            paths.update(dict.fromkeys([name] if name else []))
        elif line.startswith((b"GIT binary patch", b"Binary files ")):
            binary = True
            hunks += 1
            changes.add(current)
        elif line.startswith((*_RENAMES, b"old mode ", b"new mode ", b"deleted file ")):
            changes.add(current)
            if line.startswith(_RENAMES):
                paths[_unquoted(line.split(b" ", 2)[2])] = None
    return Patch(tuple(paths), hunks, binary, left != (0, 0), frozenset(changes))


def _count(digits: bytes | None) -> int:
    return 1 if digits is None else int(digits[:9])


def _inside(line: bytes, left: tuple[int, int]) -> tuple[int, int] | None:
    """What is left of a hunk after `line`, None if the line cannot be part of it."""
    old, new = left
    if line.startswith(b"\\"):
        return left
    if line.startswith(b"+") and new:
        return old, new - 1
    if line.startswith(b"-") and old:
        return old - 1, new
    # Mail and editors strip the one space of an empty context line; git and patch accept that.
    if (line.startswith(b" ") or line in {b"", b"\r"}) and old and new:
        return old - 1, new - 1
    return None


def _unquoted(name: bytes) -> str:
    """git quotes names with odd bytes like a C string."""
    name = name.strip(b"\r ")
    if len(name) > 1 and name.startswith(b'"') and name.endswith(b'"'):
        name = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 255]), name[1:-1])
        name = re.sub(rb"\\(.)", rb"\1", name)
    return name.decode("utf-8", "backslashreplace")


def _name(written: bytes) -> str:
    """A path of a header without `a/` or `b/`; empty for /dev/null."""
    name = _unquoted(written)
    if name == "/dev/null":
        return ""
    return name[2:] if name.startswith(("a/", "b/")) else name


def lint(data: bytes) -> list[PatchFinding]:
    """Remarks about a patch file's bytes, the gravest first; an ordinary patch has none."""
    if not data.strip():
        return [PatchFinding("empty", "the patch is empty: what runs is the unpatched baseline")]
    patch = read(data)
    paths = tuple(path for path in patch.paths if path)
    if not paths:
        return [PatchFinding("not_a_diff", "not a diff: no file is named in it")]
    nested = tuple(path for path in paths if path.rsplit("/", 1)[-1] == NESTED)
    if len(nested) == len(paths):
        text = f"touches nothing but {NESTED}: what runs is the unpatched baseline"
        return [PatchFinding("only_nested_patch", text)]
    found = []
    if not patch.changes:
        found.append(
            PatchFinding("empty", "names files but changes none: what runs is the unpatched baseline", paths)
        )
    if nested:
        text = f"also carries {NESTED}, the agent's own output: the patch may not apply"
        found.append(PatchFinding("nested_patch", text, nested))
    unsafe = tuple(p for p in paths if p.startswith(("/", "~")) or ".." in p.split("/") or "\0" in p)
    if unsafe:
        text = "names files outside the tree: it will be refused"
        found.append(PatchFinding("unsafe_path", text, unsafe))
    if patch.truncated:
        found.append(PatchFinding("truncated", "a hunk ends before its header says: it will be refused"))
    if patch.binary:
        found.append(PatchFinding("binary", "carries binary files"))
    compiled = tuple(p for p in paths if _COMPILED.fullmatch(p) or p.rsplit("/", 1)[-1] in _BUILD_FILES)
    if compiled:
        text = "changes compiled sources or the build, and nothing is compiled in the image: no effect"
        found.append(PatchFinding("compiled_sources", text, compiled))
    client = tuple(p for p in paths if _CLIENT.fullmatch(p))
    if client:
        text = "changes the benchmark's own client: its result will not be comparable"
        found.append(PatchFinding("client_modified", text, client))
    return found
