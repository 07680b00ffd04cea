"""The connection to NATS: kept, replaced when lost, and one inbox for all answers.

The JetStream driver's other modules publish and ask through a Link. It makes
one client after the other and never lets nats-py reconnect by itself: that
would give up after 60 tries or at any `-ERR`, keep half-written commands of the
lost connection, and leave whoever waits for an answer waiting. Here a lost
connection fails everything in flight at once (promise 2), and what must go on
(consumers, watchers) sees a new `client` and subscribes again.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from ofevents.bus.answers import Answers, One
from ofevents.bus.options import JetStreamOptions
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log

LEAST_VERSION: Final = (2, 12)
_BACKOFF: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_LOOK_EVERY: Final = 1.0


class Link:
    """See the module. `client` is None while not connected; `answers` are awaited here."""

    def __init__(self, options: JetStreamOptions, clock: Clock, name: str) -> None:
        self.options = options
        self.client: Client | None = None
        self.answers = Answers()
        self.reason = "not connected yet"
        self._servers = options.servers
        self._tls = options.tls.context() if options.tls else None
        self._clock = clock
        self._name = name
        self._log = Log(bus=name)
        self._setup: Callable[[], Awaitable[None]] | None = None
        self._up = asyncio.Event()
        self._gone = asyncio.Event()
        self._failed: OfeventsError | None = None
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------

    async def open(self, setup: Callable[[], Awaitable[None]]) -> None:
        """Connect, waiting as long as it takes; `setup` runs after each connect.

        Raises:
            ConfigError: the server is too old, or refuses what `setup` asks for.
        """
        self._setup = setup
        self._keeper = asyncio.create_task(self._keep(), name=f"bus {self._name}: connection")
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the connection, and every wait for it."""
        self._closing = True
        self._up.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.client is not None:
            client, self.client = self.client, None
            await client.close()
        self._lose("the bus is closed")

    @property
    def connected(self) -> bool:
        # The client knows of a lost connection before its callback tells us.
        return self._up.is_set() and self.client is not None and self.client.is_connected

    @property
    def why(self) -> str:
        """As `Bus.connection`."""
        if self.connected:
            return ""
        return self.reason or f"the connection to {self._shown} was lost"

    async def ready(self, within: float | None = None) -> Client:
        """The client, once connected; waits as long as it takes, or `within` seconds.

        Raises:
            ConfigError: connecting showed that the declaration is wrong.
            Disconnected: the bus is closed, or was not connected in time.
        """
        while True:
            try:
                async with asyncio.timeout(within):
                    await self._up.wait()
            except TimeoutError:
                raise Disconnected(self.reason) from None
            if self._failed is not None:
                raise self._failed
            if self._closing:
                raise Disconnected("the bus is closed")
            if self.client is not None:
                return self.client

    async def _keep(self) -> None:
        """Connect, wait until it is lost, connect again; forever."""
        attempt, said = 0, ""
        while True:
            self._gone = asyncio.Event()
            try:
                await self._connect()
                end_if_cancelled()
                attempt, said = 0, ""
                await self._lost()
                self._log.warning("reconnecting", reason=self.reason, delay=_BACKOFF[0])
            except ConfigError as error:
                await self._discard()
                self._fail(error)
                return
            except (OSError, nats.errors.Error, TimeoutError, Disconnected) as error:
                # The error callback has told why no server could be reached.
                if not isinstance(error, nats.errors.NoServersError):
                    self.reason = _why(error, self._shown)
            await self._discard()
            if self._closing:
                return  # the cancelling was swallowed by a client that was connecting
            delay = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
            attempt += 1
            if attempt > 1 and self.reason != said:
                said = self.reason
                self._log.warning("waiting", reason=said, delay=delay)
            # Not all workers at the same moment, when the server comes back.
            await self._clock.sleep(delay * random.uniform(0.5, 1.0))

    async def _lost(self) -> None:
        """Return when the connection is lost.

        nats-py tells, unless it fails to write down what was left while it closes: then it
        is closed, has told nobody, and keeps its socket.
        """
        client, gone = self.client, self._gone
        while not gone.is_set():
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await gone.wait()
            except TimeoutError:
                if client is not None and client.is_closed:
                    self._end(gone)
                    if client._transport is not None:
                        client._transport.close()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        client = Client()
        gone = self._gone

        async def closed() -> None:
            self._end(gone)

        async def error(problem: Exception) -> None:
            if self.connected:
                self._log.warning("stalled", reason=_why(problem, self._shown))
            else:
                self.reason = _why(problem, self._shown)

        try:
            await client.connect(
                self._servers,
                name=self._name,
                error_cb=error,
                closed_cb=closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                **self._arguments(client),
            )
            if not client.is_connected:
                # nats-py takes the end of the stream for an answer.
                raise nats.errors.UnexpectedEOF
            self._insist_on_tls(client)
        except BaseException as problem:
            gone.set()
            await client.close()
            if not isinstance(problem, ImportError):
                raise
            raise ConfigError(
                f"this bus's credentials need a library that is not installed ({problem.name}): "
                "pip install nkeys"
            ) from problem
        self.client = client
        self._check_version(client)
        self.answers.inbox = client.new_inbox()
        await client.subscribe(self.answers.inbox + ".*", cb=self.answers.take)
        assert self._setup is not None
        await self._setup()
        known = {*self._servers}
        self._servers += [
            url.geturl() for url in client.discovered_servers if url.geturl() not in known
        ]
        self.reason = ""
        self._up.set()

    def _arguments(self, client: Client) -> dict[str, Any]:
        """Credentials and TLS; with TLS no secret is given before it is in use."""
        given = self.options.credentials.arguments()
        if self._tls is None or self.options.tls is None:
            return given

        def guarded(secret: str) -> Callable[[], str]:
            def give() -> str:
                self._insist_on_tls(client)
                return secret

            return give

        for name in ("user", "password", "token"):
            if name in given:
                given[name] = guarded(given[name])
        given["tls"] = self._tls
        if self.options.tls.server_name:
            given["tls_hostname"] = self.options.tls.server_name
        return given

    def _insist_on_tls(self, client: Client) -> None:
        """nats-py goes on in plain text where the server does not demand TLS."""
        if self._tls is None or self._servers[0].startswith("wss:"):
            return
        if not client._server_info.get("tls_required", False):
            raise ConfigError(
                f"the nats-server at {self._shown} does not demand TLS, so the connection would "
                "be in plain text: configure TLS there, or leave out tls",
                path="jetstream.tls",
            )

    def _check_version(self, client: Client) -> None:
        found = client.connected_server_version
        if (found.major, found.minor) < LEAST_VERSION:
            raise ConfigError(
                f"the nats-server at {self._shown} is {found!r}; ofevents needs 2.12 or newer "
                "(messages kept back until they are due, and keys with a time to live)",
                path="jetstream.url",
            )

    @property
    def _shown(self) -> str:
        """The address without what may be a secret."""
        return ", ".join(url.rpartition("@")[2] for url in self.options.servers)

    def _fail(self, error: OfeventsError) -> None:
        self._failed = error
        self.reason = str(error)
        self._up.set()
        self._lose(str(error))

    async def _discard(self) -> None:
        """Close a client that did not become usable."""
        client, self.client = self.client, None
        if client is not None:
            await client.close()

    def _end(self, gone: asyncio.Event) -> None:
        """The connection of that attempt is lost; once, whoever finds out."""
        if not gone.is_set():
            self._lose(f"the connection to {self._shown} was lost")
            gone.set()

    def _lose(self, reason: str) -> None:
        self.reason = reason
        self.client = None
        if self._failed is None and not self._closing:
            self._up.clear()
        self.answers.lose(Disconnected(reason))

    # -- asking -------------------------------------------------------------

    async def send(
        self, subject: str, body: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Write one message.

        Raises:
            Disconnected: not connected.
        """
        client = self.client
        if client is None:
            raise Disconnected(self.reason)
        try:
            await client.publish(subject, body, reply=reply, headers=headers)
        except nats.errors.BadHeaderError as error:
            raise ConfigError(f"a header's name is not allowed on the bus: {error}") from error
        except nats.errors.Error as error:
            raise Disconnected(_why(error, self._shown)) from error

    async def ask(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Msg:
        """One question, one answer.

        Raises:
            Disconnected: not connected within `timeout` seconds, the connection is lost,
                or no answer within as many again.
        """
        deadline = timeout or self.options.publish_deadline
        if self.client is None:
            await self.ready(deadline)
        one = One(asyncio.get_running_loop().create_future())
        token, reply = self.answers.expect(one)
        try:
            async with asyncio.timeout(deadline):
                await self.send(subject, body, reply=reply, headers=headers)
                return await one.future
        except TimeoutError:
            raise Disconnected(f"no answer from {self._shown} to {subject} in time") from None
        finally:
            self.answers.forget(token)


def _why(error: BaseException, where: str) -> str:
    text = str(error).removeprefix("nats: ") or type(error).__name__
    if isinstance(error, ssl.SSLError):
        text = f"TLS: {text}"
    return f"nats-server at {where}: {text}"
