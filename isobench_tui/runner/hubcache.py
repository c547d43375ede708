"""Hugging Face's cache on disk, and which files of a model repository vLLM needs of it.

The layout is huggingface_hub's own (its guide "Understand caching"): `hub/models--OWNER--NAME/` holds `blobs/HASH`,
`snapshots/COMMIT/FILE` as links to them, and `refs/main` with the commit that "main" means where nobody asks the hub.
Standard library only: a snapshot that is known to be whole needs neither the hub nor its client.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_TEXTS = {".json", ".txt", ".model", ".py", ".jinja", ".tiktoken", ".vocab", ".bpe", ".spm", ".yaml", ".yml"}
"""Configuration, tokenizers, chat templates and the code of models that bring their own."""
_TRAINING = {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "scheduler.bin"}
"""Of a training run, not of the model; vLLM's loader leaves them out too."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision names a commit, and not a branch or tag."""
    return bool(_COMMIT.fullmatch(revision))


def needed(names: Iterable[str], weights: tuple[str, ...]) -> list[str]:
    """The files of a repository that vLLM needs, small ones first; `weights` as `campaign.repos.Repo` has it.

    Weights lie beside config.json: those in folders (`original/`, `onnx/`) are other spellings of the same model.
    """
    safe = [name for name in names if _is_inside(name)]
    texts = sorted(name for name in safe if PurePosixPath(name).suffix in _TEXTS)
    for suffix in weights:
        found = sorted(n for n in safe if n.endswith(suffix) and "/" not in n and n not in _TRAINING)
        if found:
            return texts + found
    return texts


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and not {"..", "."} & set(name.split("/")) and "\\" not in name


@dataclass(frozen=True, slots=True)
class Repository:
    """One model's folder in the cache."""

    cache: Path
    """What HF_HOME names."""
    model: str

    @property
    def folder(self) -> Path:
        return self.cache / "hub" / f"models--{self.model.replace('/', '--')}"

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def locks(self) -> Path:
        """Where huggingface_hub keeps its lock files, so that it and we wait for each other."""
        return self.cache / "hub" / ".locks" / self.folder.name

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """The commit that the cache takes a branch or tag for; None where it does not know it."""
        if is_commit(revision):
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if is_commit(commit) else None

    def point(self, revision: str, commit: str) -> None:
        """Make offline processes take `revision` for `commit`. Raises OSError."""
        if is_commit(revision) or self.commit_of(revision) == commit:
            return
        path = self.folder / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(commit)  # no newline: huggingface_hub reads the file as it is
        part.replace(path)

    def whole(self, commit: str, weights: tuple[str, ...]) -> bool:
        """Whether a snapshot holds what vLLM needs, as far as it can tell by itself.

        Every link leads to a file, and there are a configuration and the weights, all that an index names. That a
        tokenizer's file was never fetched cannot be seen here.
        """
        snapshot = self.snapshot(commit)
        files = {str(path.relative_to(snapshot)): path for path in _files(snapshot)}
        if not files or not all(path.is_file() for path in files.values()):
            return False
        if not weights:
            return True
        if not {"config.json", "params.json"} & set(files):
            return False
        for suffix in weights:
            shards = _indexed(files, suffix)
            if shards is None:
                return False
            if shards or any(name.endswith(suffix) for name in needed(files, (suffix,))):
                return shards <= set(files)
        return False


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names)


def _indexed(files: dict[str, Path], suffix: str) -> set[str] | None:
    """Names of the shards that the index files of this format list; None if one cannot be read."""
    shards: set[str] = set()
    for name, path in files.items():
        if not name.endswith(f"{suffix}.index.json") or "/" in name:
            continue
        try:
            shards |= {str(shard) for shard in json.loads(path.read_bytes())["weight_map"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    return shards
