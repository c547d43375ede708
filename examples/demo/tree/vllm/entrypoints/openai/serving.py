"""The routes of vLLM's OpenAI server that benchmarks and watchers use."""

import asyncio
import json
import sys
import time

from vllm import __version__
from vllm.engine.async_llm_engine import EngineDeadError
from vllm.entrypoints.openai import http
from vllm.sequence import Sequence

WORD = " simulated"
"""The text of every generated token."""


class ApiError(Exception):
    """Becomes a JSON error reply."""

    def __init__(self, status, kind, message):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": status}}


class ApiServer:
    """Answers one connection after the other on the loop that the engine runs on."""

    def __init__(self, engine):
        self.engine = engine
        self.started = int(time.time())
        self.requests = 0
        self._routes = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/version"): lambda _: http.reply(200, {"version": __version__}),
            ("GET", "/load"): lambda _: http.reply(200, {"server_load": len(self.engine.engine.scheduler.running)}),
            ("GET", "/v1/models"): self._models,
            ("GET", "/metrics"): self._metrics,
        }

    async def connection(self, reader, writer):
        """Serve a connection until the peer closes it."""
        host, port = writer.get_extra_info("peername")[:2]
        try:
            while True:
                request = await http.read_request(reader)
                if request is None:
                    break
                status = await self._answer(request, writer)
                _access(f"{host}:{port}", request, status)
                await writer.drain()
                if request.close:
                    break
        except ValueError as error:
            writer.write(http.reply(400, ApiError(400, "BadRequestError", str(error)).body))
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _answer(self, request, writer):
        if request.path == "/v1/completions" and request.method == "POST":
            try:
                return await self._completions(request, writer)
            except ApiError as error:
                writer.write(http.reply(error.status, error.body))
                return error.status
        route = self._routes.get((request.method, request.path))
        if route is None:
            known = any(path == request.path for _, path in self._routes) or request.path == "/v1/completions"
            status = 405 if known else 404
            writer.write(http.reply(status, {"detail": http.REASONS[status]}))
            return status
        answer = route(request)
        writer.write(answer)
        return int(answer[9:12])

    def _health(self, _request):
        return http.reply(503 if self.engine.dead is not None else 200)

    def _metrics(self, _request):
        text = self.engine.metrics.render()
        return http.reply(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _models(self, _request):
        config = self.engine.config
        cards = [
            {
                "id": name,
                "object": "model",
                "created": self.started,
                "owned_by": "simulated",
                "root": config.model,
                "parent": None,
                "max_model_len": config.max_model_len,
            }
            for name in config.served_model_name
        ]
        return http.reply(200, {"object": "list", "data": cards})

    async def _completions(self, request, writer):
        body = _parse(request.body)
        seq, queue = self._sequence(body)
        try:
            self.engine.add_request(seq)
        except EngineDeadError as error:
            raise ApiError(503, "ServiceUnavailableError", str(error)) from None
        if not body.get("stream"):
            while not (await queue.get())[1]:
                pass
            if not seq.finished:
                raise ApiError(500, "InternalServerError", "EngineCore encountered an issue.")
            writer.write(http.reply(200, self._completion(seq, body)))
            return 200
        await self._stream(seq, queue, body, writer)
        return 200

    def _sequence(self, body):
        config = self.engine.config
        if body.get("model") not in config.served_model_name:
            raise ApiError(404, "NotFoundError", f"The model `{body.get('model')}` does not exist.")
        prompt = body.get("prompt")
        tokens = prompt.split() if isinstance(prompt, str) else prompt
        if not isinstance(tokens, list) or not tokens:
            raise ApiError(400, "BadRequestError", "prompt must be a text or a list of token ids")
        max_tokens = body.get("max_tokens", 16)
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise ApiError(400, "BadRequestError", f"max_tokens must be at least 1, got {max_tokens!r}.")
        if len(tokens) + max_tokens > config.max_model_len:
            raise ApiError(
                400,
                "BadRequestError",
                f"This model's maximum context length is {config.max_model_len} tokens. However, you requested "
                f"{max_tokens} output tokens and your prompt contains {len(tokens)} input tokens.",
            )
        self.requests += 1
        queue = asyncio.Queue()
        seq = Sequence(f"cmpl-simulated-{self.requests}", tokens, max_tokens, time.monotonic())
        seq.sink = lambda count, finished: queue.put_nowait((count, finished))
        return seq, queue

    async def _stream(self, seq, queue, body, writer):
        head = {"id": seq.request_id, "object": "text_completion", "created": int(time.time())}
        head["model"] = body["model"]
        frame = json.dumps(head, separators=(",", ":"))[:-1] + ',"choices":['
        writer.write(http.STREAM_HEAD)
        finished = False
        while not finished:
            count, finished = await queue.get()
            if count == 0:
                _event(writer, '{"error":{"message":"EngineCore encountered an issue.","code":500}}')
                break
            reason = '"length"' if seq.finished and finished else "null"
            choice = '{"index":0,"text":"%s","logprobs":null,"finish_reason":%s}]}'
            _event(writer, frame + choice % (WORD * count, reason))
        options = body.get("stream_options") or {}
        if options.get("include_usage") and seq.finished:
            _event(writer, frame + f'],"usage":{json.dumps(_usage(seq))}}}')
        _event(writer, "[DONE]")
        writer.write(http.STREAM_END)

    def _completion(self, seq, body):
        choice = {"index": 0, "text": WORD * seq.output, "logprobs": None, "finish_reason": "length"}
        return {
            "id": seq.request_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "system_fingerprint": "simulated",
            "usage": _usage(seq),
        }


def _usage(seq):
    total = seq.prompt_len + seq.output
    return {"prompt_tokens": seq.prompt_len, "total_tokens": total, "completion_tokens": seq.output}


def _event(writer, text):
    writer.write(http.chunk(b"data: " + text.encode() + b"\n\n"))


def _parse(raw):
    try:
        body = json.loads(raw)
    except ValueError:
        raise ApiError(400, "BadRequestError", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequestError", "the body is not a JSON object")
    return body


def _access(peer, request, status):
    line = f'INFO:     {peer} - "{request.method} {request.target} HTTP/1.1" {status} {http.REASONS[status]}'
    sys.stdout.write(line + "\n")
