"""Just enough HTTP/1.1 over asyncio streams: requests with a length, replies with a length or in chunks."""

import asyncio
import json

MAX_BODY = 64 * 1024 * 1024
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Request:
    """One parsed request."""

    __slots__ = ("body", "close", "method", "path", "target")

    def __init__(self, method, target, body, close):
        self.method = method
        self.target = target
        self.path = target.partition("?")[0]
        self.body = body
        self.close = close


async def read_request(reader):
    """The next request of a connection; None when the peer is done. Raises ValueError for what is not HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError:
        raise ValueError("request head too long") from None
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise ValueError(f"not a request line: {lines[0][:80]!r}")
    length, close = 0, words[2] == "HTTP/1.0"
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if name == "content-length":
            length = int(value)
        elif name == "connection" and value.strip().lower() == "close":
            close = True
    if not 0 <= length <= MAX_BODY:
        raise ValueError(f"body of {length} bytes")
    try:
        body = await reader.readexactly(length) if length else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request(words[0], words[1], body, close)


def reply(status, body=b"", content_type="application/json"):
    """A whole response with its length."""
    if not isinstance(body, bytes):
        body = json.dumps(body, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nserver: simulated\r\ncontent-length: {len(body)}\r\n"
    if body:
        head += f"content-type: {content_type}\r\n"
    return head.encode() + b"\r\n" + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: simulated\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"


def chunk(data):
    """`data` as one piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
