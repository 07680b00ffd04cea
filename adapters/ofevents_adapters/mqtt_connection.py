"""One connection to an MQTT broker, for as long as it lasts; `mqtt` makes a new one after it.

A lost connection ends the source's run with Disconnected, and the engine runs it
again. The session, with what is not acknowledged, stays at the broker meanwhile.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self

from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents_adapters import mqtt_packets as packets
from ofevents_adapters.mqtt_config import Settings

CONNECT: Final = 10.0
"""Seconds for connecting and logging in."""
KEEP_ALIVE: Final = 30
"""Seconds without a word from us after which the broker gives us up."""
PING: Final = 5.0
"""Seconds between two pings; a connection that is silent for two of them is lost."""
_LEAVE: Final = 2.0
_OTHERS_TURN: Final = 10.0
"""Seconds before we take the session back from another client with our id."""
_CHUNK: Final = 64 * 1024

REASONS: Final = {
    1: "it does not speak this version of MQTT",
    2: "it does not take this client id",
    3: "it is not available",
    4: "wrong username or password",
    5: "not authorized",
    0x80: "no reason given",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x84: "it does not speak this version of MQTT",
    0x85: "it does not take this client id",
    0x86: "wrong username or password",
    0x87: "not authorized",
    0x88: "it is not available",
    0x89: "it is busy",
    0x8A: "this client is banned",
    0x8B: "it is shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "another client has taken the session over",
    0x8F: "it does not take this topic filter",
    0x93: "receive maximum exceeded",
    0x95: "a packet is too large",
    0x96: "too many messages",
    0x97: "a quota is exceeded",
    0x98: "an administrator has ended it",
    0x9C: "use another server",
    0x9D: "the server has moved",
    0x9E: "it has no shared subscriptions",
    0x9F: "too many connections",
    0xA1: "it has no subscription identifiers",
    0xA2: "it has no wildcard subscriptions",
}
_LOGIN: Final = frozenset({4, 5, 0x86, 0x87, 0x8A, 0x8C})
_OURS: Final = {1: "protocol", 0x84: "protocol", 2: "consumerID", 0x85: "consumerID",
                0x9C: "url", 0x9D: "url"}  # fmt: skip
"""Answers that only the user can mend, and the field that they are about."""


class Connection:
    """Logged in while in the `async with`.

    Attributes:
        session_present: the broker has kept what it knew of this client.
    """

    def __init__(self, settings: Settings, clock: Clock, *, receive_maximum: int) -> None:
        self._settings = settings
        self._clock = clock
        self._receive_maximum = receive_maximum
        self._decoder = packets.Decoder(settings.version)
        self._early: list[packets.Packet] = []
        self._heard = 0.0
        self._reading: float | None = None
        self.keep_alive = float(KEEP_ALIVE)
        self.session_present = False

    @property
    def where(self) -> str:
        """The address, for people."""
        return self._settings.shown

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            Disconnected: no broker answers, or it cannot take us now.
            ConfigError: it refuses the login, the client id or the version.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(CONNECT):
                self._reader, self._writer = await asyncio.open_connection(
                    settings.host,
                    settings.port,
                    ssl=settings.tls,
                    server_hostname=settings.host if settings.tls is not None else None,
                )
        except (OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            async with asyncio.timeout(CONNECT):
                await self._log_in()
        except TimeoutError as error:
            await self._close()
            raise self._unreachable(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    def _unreachable(self, error: Exception) -> Disconnected:
        text = str(error) or f"no answer within {CONNECT:.0f} s"
        return Disconnected(f"MQTT broker {self.where} cannot be reached: {text}")

    async def _log_in(self) -> None:
        settings = self._settings
        await self.send(
            packets.connect(
                settings.version,
                settings.client_id,
                clean=settings.clean,
                keep_alive=KEEP_ALIVE,
                username=settings.username,
                password=settings.password,
                receive_maximum=self._receive_maximum,
            )
        )
        answer, *self._early = await self.read()
        if not isinstance(answer, packets.Connack):
            raise Disconnected(f"MQTT broker {self.where} does not answer CONNECT as one does")
        if answer.code:
            raise self._refused(answer)
        self.session_present = answer.session_present
        # MQTT 5: the broker's word is the last one.
        self.keep_alive = float(answer.properties.get(packets.SERVER_KEEP_ALIVE, KEEP_ALIVE))

    def _refused(self, answer: packets.Connack) -> OfeventsError:
        path, text = self._settings.path, said(answer.code, answer.properties)
        if answer.code in _LOGIN:
            return ConfigError(
                f"MQTT broker {self.where} refuses the login: {text}", path=f"{path}.username"
            )
        if answer.code in _OURS:
            return ConfigError(
                f"MQTT broker {self.where} refuses us: {text}", path=f"{path}.{_OURS[answer.code]}"
            )
        return Disconnected(f"MQTT broker {self.where} refuses us: {text}")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._writer.is_closing():
            self._writer.write(packets.BYE)
        await self._close()

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_LEAVE):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()  # nothing that it waits for will come

    # -- while it lasts ---------------------------------------------------------------

    async def read(self) -> list[packets.Packet]:
        """What comes next: one packet or several.

        Raises:
            Disconnected: the connection was lost.
        """
        if self._early:
            early, self._early = self._early, []
            return early
        self._reading = self._clock.monotonic()
        try:
            while True:
                data = await self._reader.read(_CHUNK)
                if not data:
                    raise self._lost(
                        "the broker has closed it; if it does so again and again, another client "
                        f"with the id {self._settings.client_id} takes the session away"
                    )
                self._heard = self._clock.monotonic()
                if found := self._decoder.feed(data):
                    return found
        except OSError as error:
            raise self._lost(str(error)) from error
        except packets.Malformed as error:
            raise self._lost(f"this is no MQTT: {error}") from error
        finally:
            self._reading = None

    async def send(self, data: bytes) -> None:
        """Send packets.

        Raises:
            Disconnected: the connection was lost.
        """
        self._writer.write(data)
        try:
            async with asyncio.timeout(2 * PING):
                await self._writer.drain()
        except TimeoutError as error:
            raise self._lost("the broker reads nothing any more") from error
        except OSError as error:
            raise self._lost(str(error)) from error

    async def keep(self) -> None:
        """Ping without end, so that each side knows of the other.

        Silence counts only while we listen: nobody reads while emit holds all there is
        room for.

        Raises:
            Disconnected: the broker does not answer any more.
        """
        pause = min(PING, self.keep_alive / 3 or PING)
        while True:
            await self.send(packets.PING)
            await self._clock.sleep(pause)
            if self._reading is not None:
                silent = self._clock.monotonic() - max(self._reading, self._heard)
                if silent > 2 * pause:
                    raise self._lost(f"the broker has not answered for {silent:.0f} s")

    def _lost(self, why: str) -> Disconnected:
        return Disconnected(f"the connection to MQTT broker {self.where} was lost: {why}")

    def ended(self, bye: packets.Bye) -> OfeventsError:
        """The error for a broker that says why it ends the connection (MQTT 5)."""
        text = said(bye.code, bye.properties)
        if bye.code == 0x8E:
            return Disconnected(
                f"another client with the id {self._settings.client_id} is connected to MQTT "
                f"broker {self.where}: a session is one worker's; run one, or share the topic "
                "with $share/GROUP/ in front and no consumerID",
                delay=_OTHERS_TURN,
            )
        if bye.code in (0x87, 0x98):
            return ConfigError(
                f"MQTT broker {self.where} has ended the connection: {text}",
                path=self._settings.path,
            )
        return self._lost(text)


def said(code: int, properties: dict[int, Any]) -> str:
    """A reason as a sentence, with what the broker adds to it."""
    text = REASONS.get(code, f"reason {code:#04x}")
    return f"{text} ({more})" if (more := properties.get(packets.REASON)) else text
