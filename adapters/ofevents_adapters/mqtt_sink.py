"""The `mqtt` sink: events are published on an MQTT topic.

With qos 1 or 2 the broker's PUBACK or PUBCOMP is the confirmation. MQTT 5 carries an event
in the binary form of its CloudEvents binding (attributes are user properties) and says why
it refuses one; 3.1.1 knows neither, so events go structured, and a broker that does not
allow the topic confirms and drops.

paho's client runs on a thread of its own and is used for one connection only: a lost one
fails at once what waits for an answer, and what is sent again goes over the next.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ofevents.api.sink import MqttSink as Spec
from ofevents.clock import Clock
from ofevents.errors import (
    BadEvent,
    Misconfigured,
    OfeventsError,
    Rejected,
    TooLarge,
    Unavailable,
)
from ofevents.event import Event
from ofevents.ports import Format
from ofevents_adapters.mqtt_address import Address, address_of
from ofevents_adapters.redial import Redial

STRUCTURED: Final = "application/cloudevents+json"

CONNECT: Final = 5.0
"""Seconds for connecting and logging in."""
_KEEP_ALIVE: Final = 10
_LONGEST: Final = 65_535
"""Bytes of a text in MQTT."""
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters for which brokers end the connection."""

_LOGIN: Final = {0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C}
"""Of CONNACK: version, client id, user, permission, banned, method."""
_FORBIDDEN: Final = {0x87, 0x90, 0x9A, 0x9B}
"""Of PUBACK: permission, topic name, retain or qos not supported."""
_TOO_LARGE: Final = 0x95
_REFUSED: Final = 0x99


class MqttSink:
    """Publishes on one topic; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        where = address_of(spec)
        self._spec = spec
        self._five = spec.protocol == "5"
        self._format: Format = "structured" if format == "binary" and not self._five else format
        self.address = f"MQTT topic {spec.topic} at {where.shown}"
        patience = min(CONNECT, timeout)
        self._redial = Redial(
            lambda: _Connection(where, self.address, five=self._five, patience=patience), clock
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._redial.close()

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`; an MQTT message has no place for a key."""
        body, properties = message_of(event, self._format, five=self._five)
        connection = await self._redial.get()
        if len(body) > connection.largest:
            raise TooLarge(
                f"{self.address}: {len(body)} bytes of data; the broker takes packets of "
                f"{connection.largest}"
            )
        spec = self._spec
        await connection.publish(spec.topic, body, spec.qos, spec.retain, properties)


class _Connection:
    """Logged in while in the `async with`.

    Attributes:
        largest: bytes of a packet that the broker takes.
    """

    def __init__(self, where: Address, shown: str, *, five: bool, patience: float) -> None:
        self._where = where
        self._shown = shown
        self._five = five
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.alive = False
        self.largest = 268_435_455
        self._client = self._make()

    def _make(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"ofevents-{uuid.uuid4().hex[:12]}",
            clean_session=None if self._five else True,
            protocol=paho.MQTTv5 if self._five else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._patience
        if self._where.username is not None:
            client.username_pw_set(self._where.username, self._where.password)
        if self._where.tls is not None:
            client.tls_set_context(self._where.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    async def __aenter__(self) -> Self:
        """Connect and log in.

        Raises:
            Unavailable: no broker answers, or it cannot take us now.
            Misconfigured: it refuses the login.
        """
        try:
            async with asyncio.timeout(2 * self._patience):
                await asyncio.to_thread(
                    self._client.connect, self._where.host, self._where.port, _KEEP_ALIVE
                )
                self._client.loop_start()
                await self._connected
        except (OSError, ValueError, TimeoutError) as error:
            await self.__aexit__(None, None, None)
            text = str(error) or "no answer in time"
            raise Unavailable(f"{self._shown} cannot be reached: {text}") from error
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.alive = False
        self._connected.cancel()
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def publish(
        self, topic: str, body: bytes, qos: int, retain: bool, properties: Properties | None
    ) -> None:
        """Return when the broker has confirmed it (qos 0: when it is on its way)."""
        info = self._client.publish(topic, body, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise Unavailable(f"{self._shown}: {paho.error_string(info.rc)}")
        # The answer comes through the loop, so it cannot be here before us.
        answer = self._waiting[info.mid] = self._loop.create_future()
        try:
            await answer
        finally:
            self._waiting.pop(info.mid, None)

    # -- on paho's thread -------------------------------------------------------

    def _on_connect(
        self, client: Any, data: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._tell(self._logged_in, reason, getattr(properties, "MaximumPacketSize", None))

    def _on_disconnect(
        self, client: Any, data: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._tell(self._lost, str(reason))

    def _on_publish(
        self, client: Any, data: Any, mid: int, reason: ReasonCode, properties: Any
    ) -> None:
        self._tell(self._answered, mid, reason)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            pass  # the loop is closed: nobody waits

    # -- on the loop ------------------------------------------------------------

    def _logged_in(self, reason: ReasonCode, largest: int | None) -> None:
        if self._connected.done():
            return
        if reason.is_failure:
            kind = Misconfigured if reason.value in _LOGIN else Unavailable
            self._connected.set_exception(kind(f"{self._shown} refuses us: {reason}"))
            return
        self.largest = largest or self.largest
        self.alive = True
        self._connected.set_result(None)

    def _lost(self, reason: str) -> None:
        self.alive = False
        error = Unavailable(f"{self._shown}: the connection was lost: {reason}")
        for future in (self._connected, *self._waiting.values()):
            if not future.done():
                future.set_exception(error)

    def _answered(self, mid: int, reason: ReasonCode) -> None:
        answer = self._waiting.get(mid)
        if answer is None or answer.done():
            return
        if reason.is_failure:
            answer.set_exception(self._meaning(reason))
        else:
            answer.set_result(None)

    def _meaning(self, reason: ReasonCode) -> OfeventsError:
        text = f"{self._shown} refuses the event: {reason}"
        if reason.value in _FORBIDDEN:
            return Misconfigured(text)
        if reason.value == _TOO_LARGE:
            return TooLarge(text)
        return Rejected(text) if reason.value == _REFUSED else Unavailable(text)


def message_of(event: Event, format: Format, *, five: bool) -> tuple[bytes, Properties | None]:
    """Payload and properties of an event; without properties for MQTT 3.1.1.

    Raises:
        BadEvent: an attribute is no text for MQTT.
    """
    body = event.to_json() if format == "structured" else event.data or b""
    if not five:
        return body, None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if format == "structured":
        properties.ContentType = STRUCTURED
        return body, properties
    if event.data is not None or event.datacontenttype is not None:
        properties.ContentType = _text("datacontenttype", event.datacontenttype, event)
    if format == "binary":
        properties.UserProperty = [
            (name, _text(name, value, event))
            for name, value in event.attributes.items()
            if name != "datacontenttype"
        ]
    return body, properties


def _text(name: str, value: object, event: Event) -> str:
    if value is None:
        return "application/json"
    text = value if isinstance(value, str) else str(value).lower()
    if _NO_TEXT.search(text) or len(text.encode()) > _LONGEST:
        raise BadEvent(
            f"event {event.id[:80]!r} cannot be sent over MQTT: its {name} has a control "
            f"character, or more than {_LONGEST} bytes"
        )
    return text
