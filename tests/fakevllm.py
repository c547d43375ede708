"""A folder that looks like vLLM to the driver and misbehaves on demand, and runs of the driver against it."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from isobench_tui.engine.job import DRIVER, Deadlines, DriverJob, PatchJob, ServerJob, TrialJob

MODEL = "fake/model"

SERVER = '''"""Fake server: what it does wrong is the value of --fault."""
import argparse, http.server, json, os, signal, subprocess, sys, time

DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""

def daemon(env):
    """A double-forked daemon in a session of its own; `env` = {} hides every mark."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            path = os.path.join(os.getcwd(), "daemon.pid")
            os.execve(sys.executable, [sys.executable, "-c", DAEMON, path], env)
        os._exit(0)
    os.wait()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if args.fault == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\n")
            while True:
                self.wfile.write(b"X")
                time.sleep(0.1)
        if self.path == "/die":
            os._exit(0)
        if self.path == "/sick":
            Handler.sick = True
        model = "someone/else" if args.fault == "wrong" else args.model
        body = json.dumps({"data": [{"id": model}]}).encode() if self.path == "/v1/models" else b""
        self.send_response(503 if Handler.sick and self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    sick = False

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--model")
parser.add_argument("--host")
parser.add_argument("--fault", default="")
args = parser.parse_args()
print("SIMULATED server, fault:", args.fault, "token:", os.environ.get("TOKEN"))
if args.fault == "crash":
    sys.exit("ValueError: this model does not load")
if args.fault == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if args.fault == "never":
    time.sleep(600)
if args.fault == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if args.fault == "daemon":
    daemon(dict(os.environ))
if args.fault == "hidden-daemon":
    daemon({})
http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()
'''

CLIENT = '''"""Fake client: what it does is its first argument."""
import os, signal, subprocess, sys, time, urllib.request

what = sys.argv[1]
port = sys.argv[sys.argv.index("--port") + 1] if "--port" in sys.argv else None
print("client", what)
if what == "fail":
    sys.exit(5)
if what == "signal":
    os.kill(os.getpid(), signal.SIGSEGV)
if what == "silent":
    time.sleep(600)
if what == "chatter":
    while True:
        print("still here")
        time.sleep(0.05)
if what == "gate":
    while not os.path.exists("go"):
        time.sleep(0.02)
if what == "quiet":
    while not os.path.exists("go"):
        time.sleep(0.02)
    os._exit(0)
if what == "write":
    while not os.path.exists("go"):
        time.sleep(0.02)
    try:
        os.write(1, b"x" * 65536)
        os.write(1, b"x")
        open("wrote", "w").close()
    except OSError:
        open("failed", "w").close()
        while not os.path.exists("end"):
            time.sleep(0.02)
        os._exit(5)
if what in ("die", "sick"):
    try:
        urllib.request.urlopen("http://127.0.0.1:%s/%s" % (port, what)).read()
    except OSError:
        pass
if what == "env":
    print("token", os.environ.get("TOKEN"), "unbuffered", os.environ.get("PYTHONUNBUFFERED"))
if what == "rate":
    from vllm.engine import RATE
    print("rate", RATE)
if what == "leave":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("left.pid", "w").write(str(child.pid))
print("argv", sys.argv[1:])
'''

ENGINE = '"""Simulated engine."""\n\nRATE = 100\n\n\ndef step():\n    return RATE\n'


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Poll until it holds; a test that waits in vain says so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def looks(pid: int) -> None:
    """Wait until a process has gone through its waiting loop some times."""
    status = Path(f"/proc/{pid}/status")

    def switches() -> int:
        return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before = switches()
    until(lambda: switches() > before + 4)


def make_tree(root: Path, version: str = "0.5.3") -> Path:
    """A new folder with the fake `vllm` package, a client script and a docs folder."""
    files = {
        "vllm/__init__.py": "raise ImportError('the driver must not import vllm')\n",
        "vllm/version.py": f'__version__ = "{version}"\n',
        "vllm/engine.py": ENGINE,
        "vllm/kernels.cu": "int x;\n",
        "vllm/entrypoints/__init__.py": "",
        "server.py": SERVER,
        "client.py": CLIENT,
        "docs/index.md": "one\ntwo\nthree\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "vllm/__init__.py").write_text("")
    return root


def diff(name: str, before: str | None, after: str | None) -> str:
    """A git diff of one file; None: it does not exist."""
    old, new = (text.splitlines(keepends=True) if text is not None else [] for text in (before, after))
    head = f"diff --git a/{name} b/{name}\n"
    if before is None:
        head += "new file mode 100644\n"
    if after is None:
        head += "deleted file mode 100644\n"
    sides = (f"a/{name}" if before is not None else "/dev/null", f"b/{name}" if after is not None else "/dev/null")
    return head + "".join(difflib.unified_diff(old, new, *sides))


FASTER = diff("vllm/engine.py", ENGINE, ENGINE.replace("100", "300"))


@dataclass
class Run:
    """One run of the driver as the process engine starts it."""

    root: Path
    python: str = sys.executable
    attempt: str = ""
    job: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.attempt = self.attempt or f"test-{os.getpid()}-{self.root.name}"
        self.tree = self.root / "tree"
        self.dir = self.root / "run"
        self.dir.mkdir(parents=True, exist_ok=True)
        if not self.tree.exists():
            make_tree(self.tree)

    def trial(self, *argv: str, index: int = 0) -> TrialJob:
        return TrialJob(
            index=index, counted=True, argv=("python", "client.py", *argv), log=f"client-{index:02d}.log", seed=index
        )

    def server(self, fault: str = "") -> ServerJob:
        argv = ("python", "server.py", "--model", "{isobench:model}", "--port", "{isobench:port}", "--fault", fault)
        return ServerJob(argv=argv, port=0, model_ids=(MODEL,))

    def patch(self, text: str | bytes) -> PatchJob:
        data = text.encode() if isinstance(text, str) else text
        path = self.root / "patch.diff"
        path.write_bytes(data)
        return PatchJob(path=str(path), sha256=sha256(data).hexdigest())

    def job_model(
        self, *trials: TrialJob, limits: dict[str, float] | None = None, fault: str | None = None, **job: Any
    ) -> DriverJob:
        """The driver's orders: one trial that succeeds, no server, unless said otherwise."""
        deadlines = {"setup": 60, "server": 60, "measure": 60, "overall": 180, "stall": 60, **(limits or {})}
        values: dict[str, Any] = {"pythons": (sys.executable,), "env": {}, "grace": 1, "model": MODEL, **job}
        if fault is not None:
            values["server"] = self.server(fault)
        if isinstance(values.get("patch"), str):
            values["patch"] = self.patch(values["patch"])
        values = {"engine": "process", "tree": str(self.tree), **values}
        return DriverJob(
            attempt=self.attempt,
            mode="serving",
            run=str(self.dir),
            trials=trials or (self.trial("ok"),),
            deadlines=Deadlines(**deadlines),
            **values,
        )

    def start(self, *trials: TrialJob, **job: Any) -> subprocess.Popen[bytes]:
        made = self.job_model(*trials, **job)
        (self.dir / "job.json").write_text(made.model_dump_json())
        env = {"PATH": os.environ["PATH"], "HOME": str(self.root), "ISOBENCH_ATTEMPT": self.attempt, **self.env}
        with (self.dir / "driver.log").open("wb") as log:
            self.process = subprocess.Popen(
                [self.python, "-u", str(DRIVER), str(self.dir / "job.json")],
                cwd=self.tree,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def run(self, *trials: TrialJob, **job: Any) -> int:
        """Run to the end; the exit code."""
        return self.start(*trials, **job).wait(timeout=60)

    @property
    def events(self) -> list[dict[str, Any]]:
        path = self.dir / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.all(kind)
        return found

    def log(self, name: str) -> str:
        path = self.dir / name
        return path.read_text() if path.exists() else ""
