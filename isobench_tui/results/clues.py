"""What must hold beside a rule's words: where a flag came from, whose the memory is, whose code a traceback names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BUSY_SHARE = 0.8
"""Less of a GPU than this free before anything of ours runs: somebody else holds it. A driver keeps 1 - 2 %."""
OVERHEAD_GIB = 2.0
"""What a process needs on the GPU beside torch's own allocations: CUDA context, NCCL, graphs."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of an attempt beside its logs. None: not known."""

    argv: tuple[str, ...] | None = None
    """Words of the server's and the client's command, as the campaign gives them."""
    patched: bool | None = None
    """A patch was applied."""
    patch_files: tuple[str, ...] = ()
    """Paths in the tree that the patch changes."""


@dataclass(frozen=True, slots=True)
class Clue:
    """One error line with all that a check may need."""

    text: str
    context: Context = Context()
    frames: tuple[tuple[str, int], ...] = ()
    """(path, line) of its traceback, the innermost call first."""
    kind_known: bool = True
    """The log's program is known by its name."""


def patched_frame(clue: Clue) -> str:
    """The innermost `path:line` of the traceback that lies in a file of the patch; empty if there is none."""
    for path, line in clue.frames:
        if name := _patched(path, clue.context.patch_files):
            return f"{name}:{line}" if line else name
    return ""


def _patched(path: str, files: Sequence[str]) -> str:
    return next((name for name in files if path == name or path.endswith("/" + name)), "")


_OF_TREE = re.compile(r"(?:^|/)(?:vllm|sglang|benchmarks)/.*\.py$")
_OF_OTHERS = re.compile(r"/(?:site|dist)-packages/(?!(?:vllm|sglang)/)|/lib/python3[^/]*/(?!(?:site|dist)-packages/)")


def in_the_patch(_: re.Match[str], clue: Clue) -> bool:
    """The innermost call of the measured tree is in a file that the patch changed."""
    if clue.context.patched is False:
        return False
    for path, _line in clue.frames:
        if _patched(path, clue.context.patch_files):
            return True
        if _OF_TREE.search(path) and not _OF_OTHERS.search(path):
            return False
    return False


def perhaps_patched(_: re.Match[str], clue: Clue) -> bool:
    """Nothing is known of a patch, and released vLLM does not fail in this way in its own code."""
    own = next((path for path, _line in clue.frames if not path.startswith("<frozen")), "")
    return clue.context.patched is None and bool(_OF_TREE.search(own)) and not _OF_OTHERS.search(own)


def unpatched(_: re.Match[str], clue: Clue) -> bool:
    """It is known that no patch was applied: the tree of the image itself is broken."""
    return clue.context.patched is False


def untold(_: re.Match[str], clue: Clue) -> bool:
    """Nobody says whether a patch was applied; where the driver does, a log's words do not overrule it."""
    return clue.context.patched is None


def known_origin(_: re.Match[str], clue: Clue) -> bool:
    """The log's name tells its program: any error in it is that program's."""
    return clue.kind_known


def given(flag: str) -> Callable[[re.Match[str], Clue], bool]:
    """The command as the campaign gives it holds the flag, or is not known."""

    def check(_: re.Match[str], clue: Clue) -> bool:
        argv = clue.context.argv
        return argv is None or any(word == flag or word.startswith(f"{flag}=") for word in argv)

    return check


def little_free(found: re.Match[str], _: Clue) -> bool:
    """So little of the GPU is free at startup that somebody else must hold the rest."""
    free, total = _gib(found["free"]), _gib(found["total"])
    return total > 0 and free < BUSY_SHARE * total


_HELD = re.compile(r"Process \d+ has ([\d.]+) (G|M)iB memory in use")
_OWN = re.compile(r"this process has ([\d.]+) (G|M)iB memory in use")
_TORCH = re.compile(r"memory ([\d.]+) (G|M)iB is allocated by PyTorch(?:, (?:and|with) ([\d.]+) (G|M)iB)?")


def foreign_memory(found: re.Match[str], clue: Clue) -> bool:
    """Processes other than the one that ran out of memory hold a good part of the GPU.

    torch names every process on the GPU. Inside a container it does not know its own number, so that its own memory
    may be among them; then what torch itself allocated is taken off.
    """
    total = _gib(found["total"])
    held = sum(_size(*parts) for parts in _HELD.findall(clue.text))
    if not _OWN.search(clue.text) and (torch := _TORCH.search(clue.text)):
        held -= _size(torch[1], torch[2]) + _size(torch[3] or "0", torch[4] or "G") + OVERHEAD_GIB
    return total > 0 and held > (1 - BUSY_SHARE) * total


def _size(number: str, unit: str) -> float:
    return _gib(number) / (1024 if unit == "M" else 1)


def _gib(number: str) -> float:
    try:
        return float(number)
    except ValueError:
        return 0.0
