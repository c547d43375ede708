r"""A tree of a few files that speaks vLLM's command lines; what it does is the environment of the task:

GATE  the client writes GATE.reached, then waits for the file GATE;  SAY  the client prints it first;
FAKE  what goes wrong: fail, flood (a log over its cap), one-line and one-line-oom (100 MB without a newline), leak,
      hang, silent, server-hang, server-crash, no-metrics, no-room (without room for its words the client waits at a
      second gate, END, and ends with 0), escape, escape-alone, and hostile-events, hostile-replaced, hostile-removed:
      what becomes of its run directory, where VICTIM is a file outside;
STRAYS  a folder: what server and client leave there, and in the process table, is in strays.py.
"""

from __future__ import annotations

from pathlib import Path

from strays import PROGRAM

_COMMON = r'''"""SIMULATED. Shared by the client and the server."""
import os, sys, time

FAKE = os.environ.get("FAKE", "")


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def gate(name="GATE"):
    path = os.environ.get(name)
    if path:
        open(path + ".reached", "w").close()
        while not os.path.exists(path):
            time.sleep(0.02)


if os.environ.get("STRAYS"):
    from vllm.strays import leave

    leave(os.environ["STRAYS"], "server" if "api_server" in " ".join(sys.orig_argv) else "client")
'''

_HOSTILE = r'''"""SIMULATED: what measured code could do to its run directory."""
import os, shutil, sys

from vllm.fake import FAKE, option

HUGE = b"1" + b"0" * 40
CLAIMS = (
    b'"event": "python", "vllm_version": "\\ud800"',
    b'"event": "phase", "phase": "measure", "state": "end", "reason": "\\udfff"',
    b'"event": "trial", "state": "end", "index": 0, "exit_code": -' + HUGE + b', "signal": ' + HUGE,
    b'"event": "phase", "phase": ["x"], "state": {}',
    b'"event": "override", "applied": true',
    b'"event": "end", "exit_code": ' + HUGE,
)


def attack():
    run, victim = os.path.dirname(option("--output-json")), os.environ["VICTIM"]
    if FAKE == "hostile-events":
        with open(os.path.join(run, "events.jsonl"), "ab") as file:
            for claim in CLAIMS:
                file.write(b'{"at": 1700000000, ' + claim + b"}\n")
        os.kill(os.getppid(), 9)  # so that these are the last words
    if FAKE == "hostile-replaced":
        for name in os.listdir(run) + ["inspect.json", "client-00.log.idx", "setup.log.idx"]:
            path = os.path.join(run, name)
            if name in ("client-00.log", "process.json"):
                continue
            if os.path.lexists(path):
                os.unlink(path)
            os.mkdir(path) if name == "inspect.json" else os.symlink(victim, path)
        sys.exit(0)
    if FAKE == "hostile-removed":
        shutil.rmtree(run)
        os.symlink(os.path.dirname(victim), run)
        sys.exit(0)
'''

_CLIENT = r'''"""SIMULATED client."""
import json, os, subprocess, sys, time

from vllm.fake import FAKE, gate, option
from vllm.hostile import attack

print(os.environ.get("SAY", "SIMULATED client"), flush=True)
gate()
if FAKE == "leak":
    print("Authorization: Bearer", os.environ["HF_TOKEN"], flush=True)
    sys.exit("RuntimeError: 401 for %s, not even with hf_abcdefghijklmnopqrstuvwx" % os.environ["HF_TOKEN"])
if FAKE == "flood":
    for _ in range(30_000):
        print("x" * 100)
    sys.stdout.flush()
    while os.fstat(1).st_blocks * 512 > 2_500_000:  # until its middle is given back
        time.sleep(0.02)
if FAKE.startswith("one-line"):
    print("one two three ", end="")
    if FAKE == "one-line-oom":
        print("\ntorch.OutOfMemoryError: CUDA out of memory. ", end="")
    for _ in range(100):
        sys.stdout.write("x" * 1_000_000)
    print(flush=True)
    if FAKE == "one-line-oom":
        sys.exit(1)
if FAKE == "fail":
    sys.exit("RuntimeError: broken on purpose")
if FAKE == "hang":
    while True:
        print("still at it", flush=True)
        time.sleep(0.1)
if FAKE == "silent":
    time.sleep(600)
if FAKE == "no-metrics":
    sys.exit(0)
if FAKE == "no-room":
    try:
        for _ in range(100):
            os.write(1, b"x" * 99 + b"\n")
    except OSError:
        gate("END")
        os._exit(0)
if FAKE.startswith("escape"):  # a child that forgets its parent and its group
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
if FAKE == "escape-alone":  # and nobody who would look after it
    os.kill(os.getppid(), 9)
if FAKE.startswith("hostile"):
    attack()
'''

_THROUGHPUT = (
    _CLIENT
    + r"""
print("Throughput: 4.00 requests/s, 64.00 total tokens/s, 32.00 output tokens/s")
print("Total num prompt tokens:  32")
print("Total num output tokens:  32", flush=True)
if option("--output-json"):
    with open(option("--output-json"), "w") as file:
        json.dump({"elapsed_time": 1.0, "num_requests": 4, "total_num_tokens": 64, "requests_per_second": 4.0,
                   "tokens_per_second": 64.0}, file)
"""
)

_SERVING = (
    _CLIENT
    + r"""
rows = [("Successful requests:", 4), ("Failed requests:", 0), ("Benchmark duration (s):", 1.0),
        ("Total input tokens:", 32), ("Total generated tokens:", 32), ("Request throughput (req/s):", 4.0),
        ("Output token throughput (tok/s):", 32.0), ("Total token throughput (tok/s):", 64.0)]
print("{s:{c}^{n}}".format(s=" Serving Benchmark Result ", n=50, c="="))
for label, value in rows:
    print(("{:<40} {:<10.2f}" if isinstance(value, float) else "{:<40} {:<10}").format(label, value))
print("=" * 50, flush=True)
"""
)

_SERVER = r'''"""SIMULATED server."""
import http.server, json, os, sys, time

from vllm.fake import FAKE, option


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b""
        if self.path == "/v1/models":
            body = json.dumps({"data": [{"id": option("--model")}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print("SIMULATED server", flush=True)
if FAKE == "server-crash":
    sys.exit("ValueError: this model does not load")
if FAKE == "server-hang":
    time.sleep(600)
http.server.ThreadingHTTPServer(("127.0.0.1", int(option("--port"))), Handler).serve_forever()
'''

FILES = {
    "vllm/__init__.py": "",
    "vllm/version.py": '__version__ = "0.5.3"\n',
    "vllm/fake.py": _COMMON,
    "vllm/hostile.py": _HOSTILE,
    "vllm/strays.py": PROGRAM,
    "vllm/engine.py": "RATE = 100\n",
    "vllm/entrypoints/__init__.py": "",
    "vllm/entrypoints/openai/__init__.py": "",
    "vllm/entrypoints/openai/api_server.py": _SERVER,
    "benchmarks/benchmark_throughput.py": _THROUGHPUT,
    "benchmarks/benchmark_serving.py": _SERVING,
}

THROUGHPUT = "python benchmarks/benchmark_throughput.py --model m --input-len 8 --output-len 8 --num-prompts 4"
SERVING = "python benchmarks/benchmark_serving.py --model m --num-prompts 4"

PATCH = """diff --git a/vllm/engine.py b/vllm/engine.py
--- a/vllm/engine.py
+++ b/vllm/engine.py
@@ -1 +1 @@
-RATE = 100
+RATE = 300
"""


def make(root: Path) -> None:
    """The tree in `root/tree`, and two patches for it beside it: faster.diff and empty.diff."""
    for name, text in FILES.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "faster.diff").write_text(PATCH)
    (root / "empty.diff").write_text("")
