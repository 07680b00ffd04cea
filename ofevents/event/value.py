"""Event: an immutable CloudEvent 1.0 value, and its JSON form.

Everything between an adapter and a subscriber passes this one value. Its
attributes and its data bytes are kept exactly as they came (promise 3); data
is decoded only when somebody looks at it, so a filter on attributes never
pays for the payload. The HTTP forms are in `http.py`, the rules in `rules.py`,
what expressions see in `view.py`; drivers of the bus use `encode` and `decode`.

The wire form on the bus is the CloudEvents JSON format with `data` written
last and verbatim. The writer tells the reader where the data starts (an offset
in a header of the hop), so the reader parses the attributes alone and slices
the payload: exact bytes, and 30 KB cost what 300 bytes cost. Any other
structured CloudEvent, from a stranger, is parsed whole.

We have our own codec because it is on the hot path: the `cloudevents` library
validates through several layers and re-encodes the data (about ten times the
time for a 300-byte event).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, Self

import orjson

from ofevents.errors import BadEvent, EvaluationError
from ofevents.event.rules import RESERVED, Scalar, check_attributes, is_json
from ofevents.event.verbatim import data_of
from ofevents.event.view import EventView

_MISSING: Final = object()
_NESTED: Final = 1000
"""Fewer brackets than that are never too deep for a reader (orjson's limit is 1024)."""


class Event:
    """One CloudEvent. Equality is by attributes and data bytes.

    Attributes:
        attributes: names to scalars, `specversion` included; do not change it.
        data: the payload's bytes exactly as sent, None where there is none.
    """

    __slots__ = ("_value", "attributes", "data")

    attributes: Mapping[str, Scalar]
    data: bytes | None

    def __init__(
        self, attributes: Mapping[str, Scalar], data: bytes | None, value: Any = _MISSING
    ) -> None:
        """Trusts its arguments: use `create` or a `from_*` reader for foreign input.

        `value` is the decoded data where the caller has it already.
        """
        self.attributes = attributes
        self.data = data
        self._value = value

    # -- making one ---------------------------------------------------------

    @classmethod
    def create(
        cls,
        *,
        id: str,
        source: str,
        type: str,
        data: bytes | str | None = None,
        datacontenttype: str | None = None,
        time: str | None = None,
        subject: str | None = None,
        dataschema: str | None = None,
        **extensions: Scalar,
    ) -> Self:
        """A new event; None leaves an optional attribute out.

        Raises:
            BadEvent: an attribute breaks the CloudEvents rules; the message names it.
        """
        attributes: dict[str, Scalar] = {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": type,
        }
        optional = {
            "datacontenttype": datacontenttype,
            "subject": subject,
            "time": time,
            "dataschema": dataschema,
        }
        attributes.update({k: v for k, v in optional.items() if v is not None})
        attributes.update(extensions)
        check_attributes(attributes)
        return cls(attributes, data.encode() if isinstance(data, str) else data)

    def replace(self, *, data: bytes | object | None = _MISSING, **attributes: Scalar) -> Event:
        """The same event with other data or attributes; identity is the caller's care."""
        changed = {**self.attributes, **attributes} if attributes else self.attributes
        if data is _MISSING:
            return Event(changed, self.data, self._value)
        assert data is None or isinstance(data, bytes)
        return Event(changed, data)

    # -- reading it ---------------------------------------------------------

    @property
    def id(self) -> str:
        return self.attributes["id"]  # type: ignore[return-value]

    @property
    def source(self) -> str:
        return self.attributes["source"]  # type: ignore[return-value]

    @property
    def type(self) -> str:
        return self.attributes["type"]  # type: ignore[return-value]

    @property
    def datacontenttype(self) -> str | None:
        return self.attributes.get("datacontenttype")  # type: ignore[return-value]

    @property
    def partitionkey(self) -> str | None:
        """The ordering key of the CloudEvents partitioning extension."""
        key = self.attributes.get("partitionkey")
        return None if key is None else str(key)

    @property
    def value(self) -> Any:
        """The data decoded: a JSON value, text for text/*, otherwise the bytes.

        Raises:
            EvaluationError: the bytes do not fit datacontenttype.
        """
        if self._value is _MISSING:
            self._value = self._decode_data()
        return self._value

    def _decode_data(self) -> Any:
        if self.data is None:
            return None
        content_type = self.datacontenttype
        if is_json(content_type):
            try:
                return orjson.loads(self.data)
            except orjson.JSONDecodeError as error:
                raise EvaluationError(
                    f"data of event {self.id[:80]} is not the JSON that its datacontenttype "
                    f"({content_type or 'none, so JSON'}) says: {error}"
                ) from error
        if content_type is not None and content_type.lower().startswith("text/"):
            try:
                return self.data.decode()
            except UnicodeDecodeError as error:
                raise EvaluationError(
                    f"data of event {self.id[:80]} is not UTF-8 text: {error.reason} "
                    f"at byte {error.start}"
                ) from error
        return self.data

    def view(self) -> EventView:
        """A new Mapping for expressions; not kept, as it refers to the event."""
        return EventView(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.attributes == other.attributes and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.id, self.source))

    def __repr__(self) -> str:
        size = "no data" if self.data is None else f"{len(self.data)} bytes"
        return f"Event(id={self.id!r}, source={self.source!r}, type={self.type!r}, {size})"

    # -- JSON ---------------------------------------------------------------

    def encode(self) -> tuple[bytes, int]:
        """The JSON form with `data` last, and the offset of its first byte.

        The offset is 0 where the data is not verbatim in the text (text, base64, none).
        """
        head = orjson.dumps(dict(self.attributes))
        if self.data is None:
            return head, 0
        content_type = self.datacontenttype
        if is_json(content_type) and self._is_valid_json():
            return b'%b,"data":%b}' % (head[:-1], self.data), len(head) + 7
        if content_type is not None and content_type.lower().startswith("text/"):
            try:
                text = orjson.dumps(self.data.decode())
            except UnicodeDecodeError:
                pass  # not the text it claims to be: base64 keeps its bytes
            else:
                return b'%b,"data":%b}' % (head[:-1], text), 0
        return b'%b,"data_base64":"%b"}' % (head[:-1], base64.b64encode(self.data)), 0

    def _is_valid_json(self) -> bool:
        """Whether the data may stand inside a JSON text as it is."""
        assert self.data is not None
        try:
            self.value  # noqa: B018 - decoding is the check, and it is kept
        except EvaluationError:
            return False
        return self.data.count(b"[") + self.data.count(b"{") < _NESTED or _fits(self.data)

    def to_json(self) -> bytes:
        """The CloudEvents JSON format."""
        return self.encode()[0]

    @classmethod
    def decode(cls, body: bytes, data_at: int) -> Event:
        """Read what `encode` wrote; `data_at` is its offset, 0 where not known."""
        if data_at:
            return cls(orjson.loads(body[: data_at - 8] + b"}"), body[data_at:-1])
        return cls.from_json(body)

    @classmethod
    def from_json(cls, body: bytes | str) -> Event:
        """Read one event in the CloudEvents JSON format, from anybody.

        Raises:
            BadEvent: not JSON, or not a CloudEvent.
        """
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadEvent(f"not a CloudEvent: the body is not JSON ({error})") from error
        return cls.from_dict(parsed, body.encode() if isinstance(body, str) else body)

    @classmethod
    def from_dict(cls, parsed: Any, text: bytes | None = None) -> Event:
        """Read one event from a decoded JSON object; its data verbatim from its `text`.

        Raises:
            BadEvent: as `from_json`.
        """
        if not isinstance(parsed, dict):
            raise BadEvent(f"not a CloudEvent: expected a JSON object, got {type(parsed).__name__}")
        attributes = {k: v for k, v in parsed.items() if k not in RESERVED and v is not None}
        check_attributes(attributes)
        return cls(attributes, data_of(parsed, attributes.get("datacontenttype"), text))


class BrokenEvent(Event):
    """A record that claims to be a CloudEvent and is none, as an adapter emits it.

    Its EventSource dead-letters it: the raw bytes as data under attributes that the
    adapter made from the origin, and `error` as the reason. So a poison record is
    kept and the records behind it go on.
    """

    __slots__ = ("error",)

    def __init__(self, error: BadEvent, attributes: Mapping[str, Scalar], raw: bytes) -> None:
        super().__init__(attributes, raw)
        self.error = error


def _fits(data: bytes) -> bool:
    """Whether JSON data can still be read where it stands some levels deeper."""
    try:
        orjson.loads(b"%b%b%b" % (b"[" * 16, data, b"]" * 16))
    except orjson.JSONDecodeError:
        return False
    return True
