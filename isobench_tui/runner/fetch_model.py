"""`python -m isobench_tui.runner.fetch_model`: fetch one model into the cache; the child of `models`.

A process of its own, because huggingface_hub blocks and a thread cannot be cancelled. It reads one order (JSON) from
standard input and ends as soon as that is closed, so that it does not outlive the runner; the token comes by HF_TOKEN
alone. On standard output, one JSON object a line: `pinned`, `progress`, then `done` or `failed`.

Files come over plain HTTP by huggingface_hub's own `http_get`, into `<blob>.incomplete`, and a killed download goes
on where it was: `snapshot_download` starts each file anew since huggingface_hub 1.x, and Xet, which it prefers,
neither goes on nor tells how far it is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from isobench_tui.runner.hubcache import Repository, needed

TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
WORKERS = 8
"""Files at a time, as huggingface_hub does it."""
TICK_S = 0.25
CHUNK = 1024**2
"""Bytes between two writes to the disk (huggingface_hub: 10 MiB); at most lost of a file by a kill."""
MARGIN = 256 * 1024**2
"""Bytes that stay free on the cache's file system beyond the model itself."""

_HASH = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_NETWORK = {"requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2", "ssl", "socket"}
"""Packages whose errors mean that the hub did not answer; it depends on its version which huggingface_hub uses."""

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to fetch."""

    model: str
    revision: str
    cache: str
    weights: tuple[str, ...]
    """As `campaign.repos.Repo` has it."""
    look: bool = False
    """Only see whether the hub would give it; fetch nothing."""
    weigh: bool = False
    """Only pin, and say what is missing; fetch nothing."""

    def text(self) -> str:
        return json.dumps(asdict(self))


class Failed(Exception):
    """It cannot be had; `failure` is the failure class of why."""

    def __init__(self, failure: str, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.failure = failure
        self.unreachable = unreachable
        """The hub itself did not answer, or not sensibly."""


@dataclass(frozen=True, slots=True)
class File:
    name: str
    size: int
    blob: str
    """The name under which the cache holds its content, as far as the listing tells; else empty."""


@dataclass(frozen=True, slots=True)
class Pinned:
    commit: str
    files: tuple[File, ...]


class Hub:
    """The calls of huggingface_hub that we need, and what its errors mean; every call raises them."""

    def __init__(self, order: Order, token: str | None) -> None:
        self.order = order
        self.token: str | bool = token or False  # False: also no token that somebody stored beside the cache

    def pin(self) -> Pinned:
        """The commit behind the revision, and the files to fetch."""
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        info = api.model_info(self.order.model, revision=self.order.revision, files_metadata=True)
        if not info.sha:
            raise Failed("pull_failed", f"the hub names no commit for {self.order.model}", unreachable=True)
        listed = {item.rfilename: item for item in info.siblings or []}
        files = []
        for name in needed(listed, self.order.weights):
            item = listed[name]
            blob = (getattr(item.lfs, "sha256", None) if item.lfs else None) or item.blob_id or ""
            files.append(File(name, item.size or 0, blob))
        return Pinned(str(info.sha), tuple(files))

    def locate(self, commit: str, name: str) -> tuple[str, str, int | None]:
        """(URL of the content, its hash, its size)."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        found = get_hf_file_metadata(hf_hub_url(self.order.model, name, revision=commit), token=self.token)
        if not found.etag or not _HASH.fullmatch(found.etag):
            raise Failed("pull_failed", f"the hub gives no usable hash for {name}", unreachable=True)
        return found.location, found.etag, found.size

    def get(self, url: str, part: Path, size: int | None) -> None:
        """Append what is missing to `part`."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK
        headers = build_hf_headers(token=self.token)
        host = urlsplit(url).hostname
        if host not in {urlsplit(constants.ENDPOINT).hostname, "huggingface.co"}:
            headers.pop("authorization", None)  # a store with signed addresses: the token is none of its business
        headers["Accept-Encoding"] = "identity"
        with part.open("ab") as stream:
            if size is not None and stream.tell() > size:
                stream.truncate(0)
                stream.seek(0)
            http_get(url, stream, resume_size=stream.tell(), headers=headers, expected_size=size)

    def understood(self, error: Exception) -> Failed:
        """What an error means to the campaign."""
        from huggingface_hub import errors

        model, said = self.order.model, str(error).strip().splitlines()
        first = (said[0] if said else type(error).__name__)[:300]
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError):
            cure = (
                "the stored HF_TOKEN has no access to it: ask for access on its page on the hub"
                if self.token
                else 'accept its terms on the hub and name the token: [model] secrets = ["HF_TOKEN"]'
            )
            return Failed("gated_auth", f"{model} is gated; {cure}")
        if isinstance(error, errors.RevisionNotFoundError):
            return Failed("model_not_found", f"{model} has no revision {self.order.revision}")
        if isinstance(error, errors.RepositoryNotFoundError):
            unseen = "the stored HF_TOKEN" if self.token else "those without a token"
            return Failed("model_not_found", f"the hub has no model {model}, or keeps it from {unseen}")
        if isinstance(error, errors.HFValidationError):
            return Failed(
                "model_not_found", f"{model} is neither a folder nor the name of a model on the hub: {first}"
            )
        if status == 404:
            return Failed("model_not_found", f"{model}: {first}")
        if status in {401, 403}:
            return Failed("gated_auth", f"the hub refuses {model} (HTTP {status}): {first}")
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return Failed("disk_full", f"no space left in {self.order.cache} for {model}")
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return Failed("harness_misconfig", f"[model] cache cannot be written: {error}")
        silent = isinstance(error, ConnectionError | TimeoutError | errors.OfflineModeIsEnabled)
        if silent or status is not None or type(error).__module__.partition(".")[0] in _NETWORK:
            what = f"HTTP {status}: {first}" if status is not None else f"{type(error).__name__}: {first}"
            return Failed("pull_failed", f"the hub does not give {model}: {what}", unreachable=True)
        if isinstance(error, OSError):  # among them a body that ended early
            return Failed("pull_failed", f"fetching {model}: {first}")
        traceback.print_exception(error)
        return Failed("unknown", f"fetching {model}: {type(error).__name__}: {first}")


class Fetch:
    """One model on its way into the cache."""

    def __init__(self, hub: Hub, say: Say) -> None:
        self.hub = hub
        self.say = say
        self.repository = Repository(Path(hub.order.cache), hub.order.model)

    def run(self) -> None:
        """Pin, forecast, fetch. Raises Failed and whatever the client raises."""
        pinned = self.hub.pin()
        if self.hub.order.look:
            if pinned.files:
                self.hub.locate(pinned.commit, pinned.files[0].name)
            return
        snapshot = self.repository.snapshot(pinned.commit)
        missing = [file for file in pinned.files if not _is_whole(snapshot / file.name, file.size)]
        total = sum(file.size for file in pinned.files)
        self.say({"event": "pinned", "commit": pinned.commit, "files": len(pinned.files), "total": total,
                  "missing": len(missing), "need": still_needed(missing, self.repository)})  # fmt: skip
        if missing and not self.hub.order.weigh:
            forecast(self.hub.order, missing, self.repository)
            self._all(pinned, missing)

    def _all(self, pinned: Pinned, missing: list[File]) -> None:
        pool = ThreadPoolExecutor(WORKERS)
        work = [pool.submit(self._one, pinned.commit, file) for file in missing]
        left = set(work)
        try:
            while left:
                done, left = wait(left, TICK_S, FIRST_EXCEPTION)
                for finished in done:
                    finished.result()
                self._progress(pinned)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, commit: str, file: File) -> None:
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        url, etag, size = self.hub.locate(commit, file.name)
        file = replace(file, blob=etag, size=file.size if size is None else size)
        blob, locks = self.repository.blobs / etag, self.repository.locks
        for folder in (blob.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{etag}.lock"):
            if not _is_whole(blob, file.size):
                self._blob(url, blob, file)
            link = self.repository.snapshot(commit) / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))

    def _blob(self, url: str, blob: Path, file: File) -> None:
        part = blob.with_name(f"{blob.name}.incomplete")
        self.hub.get(url, part, file.size)
        if _SHA256.fullmatch(file.blob):
            with part.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != file.blob:
                part.unlink()
                raise Failed(
                    "pull_failed", f"{self.hub.order.model}: {file.name} came with another sha256 than stated"
                )
        part.replace(blob)

    def _progress(self, pinned: Pinned) -> None:
        """Bytes by what lies on the disk, which also counts what another process fetches."""
        snapshot, blobs = self.repository.snapshot(pinned.commit), self.repository.blobs
        done = files = 0
        for file in pinned.files:
            if _is_whole(snapshot / file.name, file.size):
                done, files = done + file.size, files + 1
            elif file.blob:
                done += max(_size(blobs / file.blob), _size(blobs / f"{file.blob}.incomplete"))
        self.say({"event": "progress", "done": done, "files": files})


def still_needed(missing: list[File], repository: Repository) -> int:
    """Bytes to fetch: what is missing less what an earlier download left."""
    blobs = repository.blobs
    have = sum(max(_size(blobs / f.blob), _size(blobs / f"{f.blob}.incomplete")) for f in missing if f.blob)
    return sum(file.size for file in missing) - have


def forecast(order: Order, missing: list[File], repository: Repository) -> None:
    """Raise Failed (disk_full) if the cache's file system cannot take what is missing."""
    need = still_needed(missing, repository)
    free = free_bytes(Path(order.cache))
    if need + MARGIN > free:
        mib = 1024**2
        raise Failed(
            "disk_full",
            f"{order.model} needs {need / mib:.0f} MiB and {MARGIN / mib:.0f} MiB to spare in {order.cache}, "
            f"where {free / mib:.0f} MiB are free",
        )


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process may still write there."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and (not size or path.stat().st_size == size)


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    order["weights"] = tuple(order["weights"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    token = os.environ.pop(TOKEN, None)
    last: dict[str, Any] = {"event": "done"}
    try:
        hub = Hub(Order(**order), token)
        try:
            Fetch(hub, _say).run()
        except (Failed, ImportError):
            raise
        except Exception as error:
            raise hub.understood(error) from error
    except ImportError as error:
        reason = f"[model] cache needs huggingface_hub: pip install 'isobench-tui[hub]' ({error})"
        last = {"event": "failed", "failure": "harness_misconfig", "reason": reason, "unreachable": False}
    except Failed as failed:
        reason = str(failed).replace(token, "***") if token else str(failed)
        last = {"event": "failed", "failure": failed.failure, "reason": reason, "unreachable": failed.unreachable}
    _say(last)
    os._exit(0)  # threads that still fetch must not keep us


if __name__ == "__main__":
    main()
