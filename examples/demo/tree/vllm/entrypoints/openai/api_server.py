"""`python -m vllm.entrypoints.openai.api_server`: the simulated OpenAI-compatible server."""

import asyncio
import signal
import socket
import sys

from vllm import __version__
from vllm.engine.arg_utils import FlexibleArgumentParser, add_engine_args, engine_config
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.entrypoints.openai.serving import ApiServer
from vllm.logger import SIMULATED, init_logger

DEAD_ENGINE_GRACE_S = 5.0
"""How long `/health` answers 503 once the engine died, before the process ends - with exit code 0, as vLLM's does."""

logger = init_logger("entrypoints.api_server", "APIServer")


def add_server_args(parser, model_option=True):
    """Add the server's own options and the engine's."""
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--chat-template")
    parser.add_argument("--api-key")
    parser.add_argument("--uvicorn-log-level", default="info")
    for switch in ("--disable-log-requests", "--disable-uvicorn-access-log", "--enable-log-requests"):
        parser.add_argument(switch, action="store_true")
    add_engine_args(parser, model_option)
    return parser


def _bind(host, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host or "0.0.0.0", port))
    return sock


def _uvicorn(text):
    sys.stderr.write(f"INFO:     {text}\n")
    sys.stderr.flush()


async def serve(args):
    """Serve until SIGTERM or SIGINT, or until the engine dies. Raises OSError where the port is taken."""
    sock = _bind(args.host, args.port)  # before the engine starts, as vLLM does
    engine = AsyncLLMEngine(engine_config(args))
    api = ApiServer(engine)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(api.connection, sock=sock, backlog=2048, limit=1 << 20)
    logger.info("Starting vLLM server on http://%s:%d", args.host or "0.0.0.0", args.port)
    core = asyncio.ensure_future(engine.run())
    stats = asyncio.ensure_future(engine.log_stats())
    _uvicorn("Started server process [SIMULATED]")
    _uvicorn("Waiting for application startup.")
    _uvicorn("Application startup complete.")
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopped, core], return_when=asyncio.FIRST_COMPLETED)
    if engine.dead is not None:
        await asyncio.wait([stopped], timeout=DEAD_ENGINE_GRACE_S)
    _uvicorn("Shutting down")
    server.close()
    for task in (core, stats, stopped):
        task.cancel()
    await asyncio.gather(core, stats, stopped, return_exceptions=True)
    _uvicorn("Application shutdown complete.")


def run_server(args):
    """Start, serve, stop."""
    logger.warning(SIMULATED)
    logger.info("vLLM API server version %s", __version__)
    defaults = vars(add_server_args(FlexibleArgumentParser()).parse_args([]))
    given = {name: value for name, value in sorted(vars(args).items()) if value != defaults.get(name)}
    logger.info("non-default args: %s", given)
    asyncio.run(serve(args))


def main(argv=None):
    """The module's command line."""
    parser = FlexibleArgumentParser(prog="api_server.py", description="SIMULATED vLLM OpenAI-compatible server")
    run_server(add_server_args(parser).parse_args(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    main()
