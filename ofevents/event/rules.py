"""The rules of CloudEvents 1.0 that our Event and its formats check.

Called where foreign bytes become an Event (adapters, the bus, HTTP); our own
wire form is trusted and skips them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ofevents.errors import BadEvent

Scalar = str | int | bool
"""What an attribute may hold in JSON (binary attributes travel as base64 strings)."""

REQUIRED: Final = ("id", "source", "type", "specversion")
OPTIONAL: Final = ("subject", "time", "datacontenttype", "dataschema")
_NAME: Final = re.compile(r"[a-z0-9]{1,64}\Z")
RESERVED: Final = frozenset({"data", "data_base64"})
_MIN: Final = -(2**63)
_MAX: Final = 2**64 - 1


def parse_time(text: str) -> datetime:
    """An RFC 3339 timestamp as an aware datetime (fractions cut at microseconds).

    Raises:
        BadEvent: the text is no RFC 3339 timestamp with an offset.
    """
    try:
        parsed = datetime.fromisoformat(text.upper())
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None or "T" not in text.upper():
        raise BadEvent(
            f"attribute time: {text[:64]!r} is no RFC 3339 timestamp such as 2026-01-31T12:00:00Z"
        )
    return parsed


def format_time(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, with milliseconds only where there are any."""
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=spec).removesuffix("+00:00") + "Z"


def is_json(content_type: str | None) -> bool:
    """Whether data of that media type is a JSON value; none given means JSON."""
    if content_type is None:
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media in ("application/json", "text/json") or media.endswith("+json")


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Check names and values against CloudEvents 1.0.

    Raises:
        BadEvent: naming the first attribute that breaks a rule, and the rule.
    """
    if attributes.get("specversion") != "1.0":
        found = attributes.get("specversion", "none")
        raise BadEvent(f"not a CloudEvent: specversion must be 1.0, found {str(found)[:32]!r}")
    for name in REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            what = "is missing" if value is None else f"must be a non-empty string, not {value!r}"
            raise BadEvent(f"not a CloudEvent: attribute {name} {what}")
    for name, value in attributes.items():
        if _NAME.match(name) is None or name in RESERVED:
            raise BadEvent(
                f"not a CloudEvent: attribute name {name[:40]!r} must be lower-case letters "
                "and digits only"
            )
        if value.__class__ is not str:
            _check_number(name, value)
        elif not value.isascii():
            _check_text(name, value)
    for name in OPTIONAL:
        value = attributes.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise BadEvent(f"not a CloudEvent: attribute {name} must be a non-empty string")
    if "time" in attributes:
        parse_time(attributes["time"])
    media = attributes.get("datacontenttype")
    if media is not None and not (media.isascii() and media.isprintable()):
        # It becomes an HTTP header as it is.
        raise BadEvent("not a CloudEvent: attribute datacontenttype must be printable ASCII")


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int):
        raise BadEvent(
            f"not a CloudEvent: attribute {name} must be a string, an integer or a "
            f"boolean, not {type(value).__name__}"
        )
    if not _MIN <= value <= _MAX:
        raise BadEvent(f"not a CloudEvent: attribute {name} is an integer over 64 bits")


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadEvent(
            f"not a CloudEvent: attribute {name} holds half a surrogate pair at "
            f"character {error.start}, which no UTF-8 can carry"
        ) from error


def digest(*parts: str) -> str:
    """A hash over parts that cannot run into each other: 32 hex digits.

    The one hash of promise 3 (deduplication on the bus, Idempotency-Key).
    """
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
