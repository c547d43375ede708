"""A small Hugging Face hub on loopback for the real client: the calls, headers and errors of huggingface.co.

Weights (files of 1 KiB and more) are redirected to a store under another host name, as the hub's large files are. The
store can be made to hold a download after so many bytes, until the test lets it go on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 1024
WITHIN = 60.0
"""Seconds after which a held download gives up."""


@dataclass
class Model:
    """A repository; `commits` newest last, `main` is the newest."""

    commits: dict[str, dict[str, bytes]]
    gated: bool = False
    """Its files are for `admitted` tokens only; its listing is for all."""
    private: bool = False
    """Nobody but `admitted` tokens learns that it exists."""
    admitted: set[str] = field(default_factory=set)

    def commit(self, revision: str) -> str | None:
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    token: str | None
    range: str | None


class Hub:
    """Serves `models` on a port of its own, which it keeps while it is down."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.seen: list[Seen] = []
        self.hold_after: int | None = None
        """Bytes of a large file after which its download is held."""
        self.held = threading.Event()
        """A download waits."""
        self.go = threading.Event()
        """Set to let it go on."""
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        hub = self

        class Handler(_Handler):
            site = hub

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        self.go.set()
        self.stop()

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> str:
        """A new commit of a model, as `main`; returns its id."""
        model = self.models.setdefault(name, Model({}))
        for key, value in options.items():
            setattr(model, key, value)
        text = f"{name} {len(model.commits)} {sorted(files)}"
        commit = hashlib.sha1(text.encode()).hexdigest()
        model.commits[commit] = files
        return commit

    def fetched(self) -> list[str]:
        """Paths of the contents that were asked for, without the listing."""
        return [request.path for request in self.seen if request.method == "GET" and "/api/" not in request.path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.site.seen.append(Seen(self.command, path, token, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and "revision" in parts:
            at = parts.index("revision")
            self._listing("/".join(parts[2:at]), "/".join(parts[at + 1 :]), token, body=body)
        elif parts[0] == "store":
            self._store(parts[1], body=body)
        elif "resolve" in parts:
            at = parts.index("resolve")
            name, revision, file = "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :])
            self._resolve(name, revision, file, token, body=body)
        else:
            self._refuse(404, None)

    def _model(self, name: str, revision: str, token: str | None) -> tuple[Model, str] | None:
        """The model and its commit; None once an error was answered."""
        model = self.site.models.get(name)
        if model is None or (model.private and token not in model.admitted):
            self._refuse(404 if token else 401, "RepoNotFound")
            return None
        commit = model.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return None
        return model, commit

    def _listing(self, name: str, revision: str, token: str | None, *, body: bool) -> None:
        found = self._model(name, revision, token)
        if found is None:
            return
        model, commit = found
        siblings = []
        for file, data in model.commits[commit].items():
            entry: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": _git(data)}
            if len(data) >= LARGE:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        content = {"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings, "gated": model.gated}
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"}, body=body)

    def _resolve(self, name: str, revision: str, file: str, token: str | None, *, body: bool) -> None:
        found = self._model(name, revision, token)
        if found is None:
            return
        model, commit = found
        if model.gated and token not in model.admitted:
            self._refuse(403 if token else 401, "GatedRepo")
            return
        data = model.commits[commit].get(file)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git(data)}"'}
        if len(data) < LARGE:
            self._send(200, data, headers, body=body)
            return
        sha256 = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        self._send(302, b"", {**headers, "Location": f"http://localhost:{self.site.port}/store/{sha256}"}, body=body)

    def _store(self, sha256: str, *, body: bool) -> None:
        contents = [data for model in self.site.models.values() for files in model.commits.values()
                    for data in files.values()]  # fmt: skip
        data = next((data for data in contents if hashlib.sha256(data).hexdigest() == sha256), None)
        if data is None:
            self._refuse(404, None)
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if asked else 200, data[start:], headers, body=body, hold=True)

    def _refuse(self, status: int, code: str | None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._send(status, b"", headers, body=False)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool, hold: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        limit = self.site.hold_after
        if not hold or limit is None or limit >= len(data):
            self.wfile.write(data)
            return
        self.wfile.write(data[:limit])
        self.wfile.flush()
        self.site.held.set()
        self.site.go.wait(WITHIN)
        try:
            self.wfile.write(data[limit:])
        except OSError:  # the client is gone
            self.close_connection = True


def _git(data: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
