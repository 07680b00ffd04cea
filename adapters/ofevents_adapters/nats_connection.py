"""One connection to a NATS server, for as long as it lasts; `nats` makes a new one after it.

nats-py never reconnects by itself here: it would give up after a number of tries, and
whoever waits would not learn of it. A lost connection ends the source's run with
Disconnected, and the engine runs it again (`ofevents.ports`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import nats.errors
from nats.aio.client import Client

from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.process import end_if_cancelled
from ofevents_adapters.nats_config import Access

CONNECT: Final = 5
"""Seconds for each step of connecting to a server."""
ANSWER: Final = 5.0
"""Seconds for one question to the server."""
_PING: Final = 5
"""Seconds between two pings; a second one without an answer ends the connection."""
_LEAVE: Final = 2.0
"""Seconds for closing."""
_SECRETS: Final = ("user", "password", "token")


class Connection:
    """Connected while in the `async with`; `client` is nats-py's."""

    def __init__(self, settings: Access, name: str) -> None:
        self._settings = settings
        self._name = name
        self._gone = asyncio.Event()
        self._problem: Exception | None = None
        self._refused = ""
        self.client = Client()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            Disconnected: no server answers.
            ConfigError: it refuses the login, or has no TLS although it is asked for.
        """
        try:
            await self.client.connect(
                list(self._settings.servers),
                name=self._name,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT,
                ping_interval=_PING,
                max_outstanding_pings=1,
                **self._arguments(),
            )
            if not self.client.is_connected:
                # nats-py takes the end of the stream for an answer.
                raise nats.errors.UnexpectedEOF
            self._insist_on_tls()
            end_if_cancelled()
        except BaseException as error:
            await self._close()
            if isinstance(error, (nats.errors.Error, OSError, TimeoutError)):
                raise self._meaning(error) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE):
                await self.client.close()
        except TimeoutError:
            pass  # nats-py waits without end for a TLS connection that the server has cut

    def _arguments(self) -> dict[str, Any]:
        """Secrets as calls: nats-py makes them when it has the server's greeting."""
        arguments = dict(self._settings.login)
        for name in _SECRETS:
            if name in arguments:
                arguments[name] = self._guarded(arguments[name])
        if self._settings.tls is not None:
            arguments["tls"] = self._settings.tls
        return arguments

    def _guarded(self, secret: str) -> Callable[[], str]:
        def give() -> str:
            self._insist_on_tls()
            return secret

        return give

    def _insist_on_tls(self) -> None:
        """nats-py goes on in plain text where the server does not demand TLS."""
        websocket = self._settings.servers[0].startswith("wss:")
        offered = self.client._server_info.get("tls_required", False)
        if self._settings.tls is not None and not websocket and not offered:
            raise ConfigError(
                f"the nats-server at {self.where} does not demand TLS, so the connection would be "
                "in plain text: configure TLS there, or leave out tls",
                path=f"{self._settings.path}.tls",
            )

    # -- while it lasts ---------------------------------------------------------

    @property
    def where(self) -> str:
        """The addresses, for people."""
        return self._settings.shown

    @property
    def alive(self) -> bool:
        """Whether it is of use."""
        return not self._gone.is_set() and self.client.is_connected

    async def lost(self) -> None:
        """Wait until the connection is of no more use.

        Raises:
            Disconnected: it was lost.
            ConfigError: the server refuses what we want to do.
        """
        await self._gone.wait()
        self.check()
        raise Disconnected(f"the connection to nats-server {self.where} was lost")

    def check(self) -> None:
        """Raise ConfigError if the server has refused something."""
        if self._refused:
            raise ConfigError(
                f"nats-server {self.where} refuses: {self._refused}; allow it to this user",
                path=self._settings.path,
            )

    def failed(self, error: Exception, what: str) -> OfeventsError:
        """The error of ours for one of the client's while doing `what`."""
        try:
            self.check()
        except ConfigError as refused:
            return refused
        return Disconnected(f"nats-server {self.where}: {what}: {_text(error)}")

    async def _on_closed(self) -> None:
        self._gone.set()

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self._refused = _text(error)
            self._gone.set()
        else:
            self._problem = error

    def _meaning(self, error: BaseException) -> OfeventsError:
        """Why connecting failed; the callback knows more than `no servers available`."""
        if isinstance(error, nats.errors.NoServersError) and self._problem is not None:
            error = self._problem
        text = _text(error)
        if isinstance(error, ImportError):
            return ConfigError(
                "WebSockets need a library that is not installed: pip install 'ofevents[nats]'",
                path=f"{self._settings.path}.url",
            )
        lower = text.lower()
        if "authorization violation" in lower or "authentication expired" in lower:
            return ConfigError(
                f"nats-server {self.where} refuses the login: {text}",
                path=f"{self._settings.path}.credentials",
            )
        return Disconnected(f"nats-server {self.where} cannot be reached: {text}")


def _text(error: BaseException) -> str:
    text = str(error).removeprefix("nats: ").strip("' ")
    return text or type(error).__name__
