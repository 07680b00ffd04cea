"""The HTTP sink of the benchmarks: counts ids, measures creation-to-arrival.

Run as `python -m bench.sink PORT`. It speaks just enough HTTP/1.1 that it is
never the bottleneck: keep-alive, Content-Length bodies, an empty 200. The id is
read from the `ce-id` header and ends with the creation time (`evt-<n>-<ns>`).
`GET /stats` answers with JSON; `GET /reset` forgets.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Stats:
    """What arrived since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.calls = 0
        self.ids: set[bytes] = set()
        self.latencies: list[float] = []
        self.first = 0.0
        self.last = 0.0

    def arrived(self, event_id: bytes) -> None:
        now = time.time()
        self.calls += 1
        self.first = self.first or now
        self.last = now
        self.ids.add(event_id)
        self.latencies.append(now - int(event_id.rpartition(b"-")[2]) / 1e9)

    def report(self) -> bytes:
        ordered = sorted(self.latencies)
        count = len(ordered)
        return json.dumps(
            {
                "calls": self.calls,
                "distinct": len(self.ids),
                "seconds": self.last - self.first,
                "p50_ms": ordered[count // 2] * 1000 if ordered else 0.0,
                "p99_ms": ordered[int(count * 0.99)] * 1000 if ordered else 0.0,
            }
        ).encode()


class SinkProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower() + b"\r\n"
            size = int(_header(head, b"content-length") or 0)
            if len(self._buffer) < end + 4 + size:
                return
            self._buffer = self._buffer[end + 4 + size :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"get /stats"):
            body = self._stats.report()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            self._transport.write(body)
            return
        if head.startswith(b"get /reset"):
            self._stats.reset()
        else:
            self._stats.arrived(_header(head, b"ce-id"))
        self._transport.write(OK)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.find(b"\r\n", start)].strip()


async def serve(port: int) -> None:
    """Listen on 127.0.0.1 until killed."""
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SinkProtocol(stats), "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
