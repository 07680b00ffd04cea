"""Properties that pamqp cannot decode, made harmless; called once, by `rabbitmq_connection`.

A timestamp in microseconds is beyond the year 9999, and RabbitMQ lets publishers send
text that is no UTF-8. pamqp raises on both, aio-pika closes the connection, and the
message comes again: it would hold up all that are behind it for good. So such a
timestamp counts as none, such text keeps what can be read of it, and headers of which
one cannot be read count as none.
"""

from __future__ import annotations

from typing import Any

from pamqp import decode


def _timestamp(value: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        if len(value) < 8:
            raise  # the frame is cut off
        return 8, None


def _short_text(value: bytes) -> tuple[int, Any]:
    try:
        return decode.short_str(value)
    except ValueError:
        end = 1 + value[0]
        if len(value) < end:
            raise
        return end, value[1:end].decode(errors="replace")


def _table(value: bytes) -> tuple[int, Any]:
    try:
        return decode.field_table(value)
    except ValueError:
        end = 4 + int.from_bytes(value[:4])
        if len(value) < max(4, end):
            raise
        return end, {}


def tolerate() -> None:
    """Decode what can be decoded of a message; pamqp's tables are this process's."""
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _timestamp
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = _table
