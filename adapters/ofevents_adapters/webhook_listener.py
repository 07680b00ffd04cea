"""One HTTP server per address, shared by the webhook entries of a process.

Called by the `webhook` source: each entry adds its path to the listener of its
host and port. The first entry opens it, the last one to leave closes it, and
waits until its port is free again, so that a changed entry can have it at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from weakref import WeakKeyDictionary

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ofevents.errors import ConfigError

Handler = Callable[[Request], Awaitable[Response]]
Pem = tuple[str, str]
"""Certificate chain and private key, PEM texts."""

_GRACE = 3
"""Seconds that answers under way get when the last entry has left."""
_KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than most proxies, so that they end it."""

_OPEN: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, int], Listener]] = (
    WeakKeyDictionary()
)


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to its process, and says when it answers."""

    answering: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


class Listener:
    """A server on one address and what its paths lead to."""

    def __init__(self, host: str, port: int, tls: Pem | None, owner: str) -> None:
        self._tls = tls
        self._context = None if tls is None else _context(tls)
        self._socket = _bind(host, port, owner)
        self._routes: dict[str, tuple[Handler, str]] = {}
        self.address = _address(self._socket, secure=tls is not None)
        config = uvicorn.Config(
            self._answer,
            log_config=None,
            access_log=False,
            interface="asgi3",
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        config.load()
        config.ssl = self._context
        self._server = _Server(config)
        self._server.answering = asyncio.Event()
        self.leaving = False
        self._task: asyncio.Task[None] = asyncio.create_task(
            self._server.serve(sockets=[self._socket]), name=f"listener {self.address}"
        )

    def add(self, path: str, handler: Handler, owner: str, tls: Pem | None) -> None:
        """Lead a path to that handler.

        Raises:
            ConfigError: it leads to another entry's, or that one has other TLS.
        """
        if path in self._routes:
            raise ConfigError(
                f"{owner} cannot have {self.address}{path}: it belongs to "
                f"{self._routes[path][1]}; give one of them another path or port"
            )
        if tls != self._tls:
            other = next(iter(self._routes.values()))[1]
            raise ConfigError(
                f"{owner} and {other} share {self.address}, so they must have the same tls; "
                "give one of them another port"
            )
        self._routes[path] = (handler, owner)

    def remove(self, path: str) -> bool:
        """No longer lead there; True when no path is left."""
        del self._routes[path]
        self.leaving = not self._routes
        return self.leaving

    async def answering(self) -> None:
        """Return once it answers."""
        await self._server.answering.wait()

    async def ended(self) -> None:
        """Return when the server has ended, for whatever reason; the port is free then."""
        await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop accepting, let answers under way finish, and free the port."""
        self._server.should_exit = True
        await self.ended()
        self._socket.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler, _ = self._routes.get(scope["path"], (_not_found, ""))
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)


@asynccontextmanager
async def listen(
    host: str, port: int, path: str, *, tls: Pem | None, handler: Handler, owner: str
) -> AsyncIterator[Listener]:
    """Answer requests for that path as long as the block runs.

    Port 0 takes a free port, never a shared one. `owner` names the entry in errors.

    Raises:
        ConfigError: the port or the path is taken, or the certificate cannot be used.
    """
    table = _OPEN.setdefault(asyncio.get_running_loop(), {})
    while (found := table.get((host, port))) is not None and found.leaving:
        await found.ended()
    listener = found or Listener(host, port, tls, owner)
    listener.add(path, handler, owner, tls)
    if port:
        table[host, port] = listener
    try:
        await listener.answering()
        yield listener
    finally:
        if listener.remove(path):
            # Shielded: a port that stays taken would fail the next start.
            await asyncio.shield(_close(listener, table, (host, port)))


async def _close(
    listener: Listener, table: dict[tuple[str, int], Listener], key: tuple[str, int]
) -> None:
    try:
        await listener.close()
    finally:
        if table.get(key) is listener:
            del table[key]


async def _not_found(request: Request) -> Response:
    path = request.url.path
    return JSONResponse({"error": f"no webhook listens at {path[:200]}"}, status_code=404)


def _bind(host: str, port: int, owner: str) -> socket.socket:
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigError(f"{owner} cannot listen on {host!r}: {error.strerror}") from error
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        # Listened to at once: otherwise a second one could bind the same port.
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"{owner} cannot listen on {host}:{port}: {error.strerror}. See who holds the port "
            f"with `ss -ltnp 'sport = :{port}'` or `lsof -i :{port}`, and end it, or choose "
            "another port"
        ) from error
    bound.setblocking(False)
    return bound


def _address(bound: socket.socket, *, secure: bool) -> str:
    """URL to show; an address that means all of them is shown as this machine."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if ":" in shown:
        shown = f"[{shown}]"
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def _context(tls: Pem) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The ssl module reads files only; in memory where the system has that, as a
        # worker's root file system is read-only and a key should not reach a disk.
        with _PrivateFile(tls[0]) as cert, _PrivateFile(tls[1]) as key:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            "tls: cert and key are no certificate chain and its private key in PEM form "
            f"({getattr(error, 'reason', error)})"
        ) from error
    return context


class _PrivateFile:
    """A text as a file that only this process can read, gone after the block."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def __enter__(self) -> str:
        if hasattr(os, "memfd_create"):
            self._descriptor, self._path = os.memfd_create("tls"), ""
        else:
            self._descriptor, self._path = tempfile.mkstemp()
        os.write(self._descriptor, self._text)
        return self._path or f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._path:
            os.unlink(self._path)
