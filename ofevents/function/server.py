"""A small HTTP server until told to stop: for functions and for a worker's probes.

uvicorn wants to own the process: it installs signal handlers and leaves through
`sys.exit` when its port is taken. Here the caller owns signals and lifetime, and
a port in use is a sentence. Called by `function.app` and `local.admin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from ofevents.errors import ConfigError

GRACE = 1.0
"""Seconds that open requests get once the server is told to stop."""


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to its process, and says when it answers."""

    def __init__(self, config: uvicorn.Config, answering: Callable[[], None]) -> None:
        super().__init__(config)
        self._answering = answering

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answering()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def bind(host: str, port: int, *, what: str) -> socket.socket:
    """A listening socket; `port` 0 takes any free one. `what` names it in the error.

    Raises:
        ConfigError: the port is in use, not allowed, or the host is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        reason = error.strerror or error
        raise ConfigError(
            f"{what} cannot listen on {host}:{port}: {reason}; "
            "end the program that holds the port, or choose another"
        ) from error
    bound.setblocking(False)
    return bound


def url(bound: socket.socket) -> str:
    """The address to show for a bound socket; a wildcard is shown as 127.0.0.1."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


async def serve(
    app: Any, bound: socket.socket, *, stop: asyncio.Event, started: Callable[[str], None]
) -> None:
    """Serve the ASGI `app` on that socket until `stop` is set, then finish open requests.

    `started(url)` is called once it answers. Requests that take longer than `GRACE`
    after the stop are cut off.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=int(GRACE)
    )
    address = url(bound)
    server = _Server(config, lambda: started(address))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(server.serve(sockets=[bound]))
        stopping = group.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopping.cancel()
