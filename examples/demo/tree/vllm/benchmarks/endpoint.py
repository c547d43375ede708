"""The benchmark's HTTP client: one streamed completion, timed."""

import asyncio
import json
import time


class RequestOutput:
    """What came of one request. Times are seconds."""

    __slots__ = (
        "error",
        "itl",
        "latency",
        "output_tokens",
        "prompt_len",
        "start",
        "success",
        "text",
        "tokens",
        "ttft",
    )

    def __init__(self, prompt_len):
        self.prompt_len = prompt_len
        self.success = False
        self.error = ""
        self.text = ""
        self.start = 0.0
        self.latency = 0.0
        self.ttft = 0.0
        self.itl = []
        self.output_tokens = None
        """As the server's usage says; None where it said nothing."""
        self.tokens = []
        """Tokens of each piece of text, the first one included."""


class Endpoint:
    """Where requests go."""

    def __init__(self, host, port, path, model, ignore_eos=False, temperature=None, logprobs=None):
        self.host = host
        self.port = port
        self.path = path
        self._options = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        if ignore_eos:
            self._options["ignore_eos"] = True
        if temperature is not None:
            self._options["temperature"] = temperature
        if logprobs is not None:
            self._options["logprobs"] = logprobs

    async def request(self, sample):
        """Send one prompt and time its stream. Never raises for what the server does."""
        output = RequestOutput(sample.prompt_len)
        payload = dict(self._options, prompt=sample.prompt, max_tokens=sample.expected_output_len)
        body = json.dumps(payload).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        output.start = time.perf_counter()
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
            writer.write(head.encode() + body)
            await self._read(reader, output)
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, asyncio.LimitOverrunError) as error:
            output.success = False
            output.error = f"{type(error).__name__}: {error}"
        finally:
            if writer is not None:
                writer.close()
        return output

    async def _read(self, reader, output):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        _, status, reason = head.split("\r\n", 1)[0].split(" ", 2)
        if status != "200":
            output.error = reason
            return
        last = output.start
        async for event in _events(reader):
            if event == b"[DONE]":
                break
            data = json.loads(event)
            if data.get("choices"):
                now = time.perf_counter()
                text = data["choices"][0]["text"]
                if output.tokens:
                    output.itl.append(now - last)
                else:
                    output.ttft = now - output.start
                output.tokens.append(len(text.split()))
                output.text += text
                last = now
            elif data.get("usage"):
                output.output_tokens = data["usage"]["completion_tokens"]
        output.latency = last - output.start
        if output.tokens:
            output.success = True
        else:
            output.error = "Never received a valid chunk to calculate TTFT. This response will be marked as failed!"


async def _events(reader):
    """The data of each server-sent event in a chunked body."""
    rest = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        if size == 0:
            return
        rest += (await reader.readexactly(size + 2))[:-2]
        while b"\n\n" in rest:
            event, rest = rest.split(b"\n\n", 1)
            if event.startswith(b"data: "):
                yield event[6:]
