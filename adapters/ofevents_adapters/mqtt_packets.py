"""MQTT 3.1.1 and 5 on the wire, as far as a subscriber needs it; pure, no connection.

Called by `mqtt_connection` and `mqtt_session`. It is here, and no client library,
because of the acknowledgement: a QoS 2 message is the receiver's own once PUBREC is
sent, and the libraries send it before they hand the message over. Here both PUBACK
and PUBREC are the caller's to send, after the event is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Version = Literal[4, 5]
"""The protocol level: 4 is MQTT 3.1.1."""

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP = range(1, 8)
_SUBSCRIBE, _SUBACK, _PINGREQ, _PINGRESP, _DISCONNECT = 8, 9, 12, 13, 14

CONTENT_TYPE: Final = 0x03
SESSION_EXPIRY: Final = 0x11
SERVER_KEEP_ALIVE: Final = 0x13
REASON: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
USER_PROPERTY: Final = 0x26

_BYTE: Final = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_SHORT: Final = frozenset({SERVER_KEEP_ALIVE, RECEIVE_MAXIMUM, 0x22, 0x23})
_LONG: Final = frozenset({0x02, SESSION_EXPIRY, 0x18, 0x27})
_NUMBER: Final = frozenset({0x0B})
_TEXT: Final = frozenset({CONTENT_TYPE, 0x08, 0x12, 0x15, 0x1A, 0x1C, REASON})
_BINARY: Final = frozenset({0x09, 0x16})


class Malformed(Exception):
    """What came is no MQTT; the text says what was expected."""


# -- what comes -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connack:
    """The answer to CONNECT; `code` 0 lets us in."""

    session_present: bool
    code: int
    properties: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publish:
    """A message. `mid` is the packet's identifier, 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    retain: bool = False
    dup: bool = False
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5's user properties; a name may come several times."""


@dataclass(frozen=True, slots=True)
class Pubrel:
    """The broker knows that we have that QoS 2 message; it wants PUBCOMP."""

    mid: int


@dataclass(frozen=True, slots=True)
class Suback:
    """The answer to SUBSCRIBE: the QoS granted, or 0x80 and above where it is refused."""

    mid: int
    code: int
    properties: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pong:
    """The broker lives."""


@dataclass(frozen=True, slots=True)
class Bye:
    """MQTT 5: the broker ends the connection, and says why."""

    code: int
    properties: dict[int, Any] = field(default_factory=dict)


Packet = Connack | Publish | Pubrel | Suback | Pong | Bye


class Decoder:
    """Cuts what comes off the connection into packets."""

    def __init__(self, version: Version) -> None:
        self._five = version == 5
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete with these bytes.

        Raises:
            Malformed: the connection is of no more use.
        """
        self._buffer += data
        packets: list[Packet] = []
        at = 0
        while (found := _length(self._buffer, at + 1)) is not None:
            length, begin = found
            if len(self._buffer) < begin + length:
                break
            head, body = self._buffer[at], bytes(self._buffer[begin : begin + length])
            at = begin + length
            try:
                packets.append(self._packet(head >> 4, head & 0x0F, body))
            except (struct.error, IndexError) as error:
                raise Malformed(f"a packet of type {head >> 4} is cut off") from error
        del self._buffer[:at]
        return packets

    def _packet(self, kind: int, flags: int, body: bytes) -> Packet:
        if kind == _PUBLISH:
            return self._publish(flags, body)
        if kind == _PUBREL:
            return Pubrel(*struct.unpack_from("!H", body))
        if kind == _PINGRESP:
            return Pong()
        if kind == _CONNACK:
            return Connack(bool(body[0] & 1), body[1], self._properties(body, 2))
        if kind == _SUBACK:
            (mid,) = struct.unpack_from("!H", body)
            return Suback(mid, body[-1], self._properties(body, 2))
        if kind == _DISCONNECT and self._five:
            return Bye(body[0] if body else 0, self._properties(body, 1) if body[1:] else {})
        raise Malformed(f"a packet of type {kind}, which no broker sends to a subscriber")

    def _publish(self, flags: int, body: bytes) -> Publish:
        topic, at = _text(body, 0)
        qos, mid = flags >> 1 & 3, 0
        if qos == 3:
            raise Malformed("a message with QoS 3")
        if qos:
            (mid,) = struct.unpack_from("!H", body, at)
            at += 2
        content_type, pairs = None, []
        if self._five:
            length, begin = _number(body, at)
            at = begin + length
            for name, value in _read_properties(body, begin, at):
                if name == CONTENT_TYPE:
                    content_type = value
                elif name == USER_PROPERTY:
                    pairs.append(value)
        return Publish(
            topic, body[at:], qos, mid, bool(flags & 1), bool(flags & 8), content_type, tuple(pairs)
        )

    def _properties(self, body: bytes, at: int) -> dict[int, Any]:
        if not self._five:
            return {}
        length, begin = _number(body, at)
        return dict(_read_properties(body, begin, begin + length))


def _length(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """A packet's length, and where what it measures begins; None if it is not all there."""
    try:
        return _number(buffer, at)
    except IndexError:
        return None


def _number(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number of one to four bytes, and what is behind it."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed("a length of more than four bytes")


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("!H", data, at)
    end = at + 2 + length
    if end > len(data):
        raise IndexError
    return data[at + 2 : end], end


def _text(data: bytes, at: int) -> tuple[str, int]:
    found, at = _binary(data, at)
    return found.decode(errors="replace"), at


def _read_properties(data: bytes, at: int, end: int) -> Iterator[tuple[int, Any]]:
    """Each property's identifier and value."""
    while at < end:
        name = data[at]
        at += 1
        value: Any
        if name in _BYTE:
            value, at = data[at], at + 1
        elif name in _SHORT:
            (value,), at = struct.unpack_from("!H", data, at), at + 2
        elif name in _LONG:
            (value,), at = struct.unpack_from("!I", data, at), at + 4
        elif name in _NUMBER:
            value, at = _number(data, at)
        elif name in _TEXT:
            value, at = _text(data, at)
        elif name in _BINARY:
            value, at = _binary(data, at)
        elif name == USER_PROPERTY:
            key, at = _text(data, at)
            text, at = _text(data, at)
            value = (key, text)
        else:
            raise Malformed(f"a property {name:#04x}, which MQTT 5 does not have")
        yield name, value


# -- what goes --------------------------------------------------------------------

PING: Final = bytes((_PINGREQ << 4, 0))
BYE: Final = bytes((_DISCONNECT << 4, 0))


def connect(
    version: Version,
    client_id: str,
    *,
    clean: bool,
    keep_alive: int,
    username: str | None,
    password: str | None,
    receive_maximum: int,
) -> bytes:
    """CONNECT; a session that is not clean is kept for good."""
    flags = clean << 1 | (password is not None) << 6 | (username is not None) << 7
    body = _string("MQTT") + struct.pack("!BBH", version, flags, keep_alive)
    if version == 5:
        properties = struct.pack("!BH", RECEIVE_MAXIMUM, receive_maximum)
        if not clean:
            properties += struct.pack("!BI", SESSION_EXPIRY, 0xFFFFFFFF)
        body += bytes((len(properties),)) + properties
    body += _string(client_id)
    for text in (username, password):
        if text is not None:
            body += _string(text)
    return _packed(_CONNECT << 4, body)


def subscribe(version: Version, mid: int, topic: str, qos: int, *, retained: bool) -> bytes:
    """SUBSCRIBE; MQTT 5 sends what was retained for a new subscription only, or never."""
    options = qos
    properties = b""
    if version == 5:
        options |= (1 if retained else 2) << 4
        properties = b"\x00"
    body = struct.pack("!H", mid) + properties + _string(topic) + bytes((options,))
    return _packed(_SUBSCRIBE << 4 | 2, body)


def acknowledgement(qos: int, mid: int) -> bytes:
    """PUBACK for QoS 1, PUBREC for QoS 2: the message is ours now; nothing for QoS 0."""
    if qos == 0:
        return b""
    return struct.pack("!BBH", (_PUBACK if qos == 1 else _PUBREC) << 4, 2, mid)


def completion(mid: int) -> bytes:
    """PUBCOMP, the answer to PUBREL."""
    return struct.pack("!BBH", _PUBCOMP << 4, 2, mid)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data


def _packed(head: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        length.append(low | 0x80 if size else low)
        if not size:
            return bytes((head,)) + bytes(length) + body
