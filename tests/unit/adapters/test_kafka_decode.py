"""Avro, Protobuf and JSON Schema values become JSON; what does not fit is never guessed."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ofevents_adapters.kafka_decode import Source, decoder
from tests.unit.adapters.kafka_schemas import (
    MONEY,
    MONEY_FILE,
    ORDER,
    ORDER_FILE,
    ORDER_JSON,
    message,
    order,
    text,
)

AVRO = Source("AVRO", ORDER, {"shop.Money": MONEY})
PROTOBUF = Source("PROTOBUF", text(ORDER_FILE), {"shop/money.proto": text(MONEY_FILE)})


def avro(value: Any) -> bytes:
    named: dict[str, Any] = {}
    parse_schema(json.loads(MONEY), named_schemas=named)
    stream = io.BytesIO()
    schemaless_writer(stream, parse_schema(json.loads(ORDER), named_schemas=named), value)
    return stream.getvalue()


def test_avro_with_a_reference_and_logical_types() -> None:
    value = {
        "id": "7",
        "total": {"amount": 2**62, "currency": "EUR"},
        "at": datetime.datetime(2026, 1, 31, 12, 0, 0, 500_000, datetime.UTC),
        "rate": decimal.Decimal("1234.50"),
        "raw": b"\x00\xff",
        "note": None,
        "tags": {"a": 1},
    }
    assert json.loads(decoder(AVRO)(avro(value))) == {
        "id": "7",
        "total": {"amount": 2**62, "currency": "EUR"},
        "at": "2026-01-31T12:00:00.500000Z",
        "rate": "1234.50",
        "raw": "AP8=",
        "note": None,
        "tags": {"a": 1},
    }


@pytest.mark.parametrize("schema", ['"string"', '{"type": "array", "items": "long"}', '["null"]'])
def test_avro_schemas_need_be_no_record(schema: str) -> None:
    value: Any = {'"string"': "ü", '["null"]': None}.get(schema, [1, 2])
    stream = io.BytesIO()
    schemaless_writer(stream, parse_schema(json.loads(schema)), value)
    assert json.loads(decoder(Source("AVRO", schema, {}))(stream.getvalue())) == value


def test_protobuf_has_every_field_by_its_name_and_numbers_as_numbers() -> None:
    data = b"\x02\x02" + order().SerializeToString()  # one index: 1
    assert json.loads(decoder(PROTOBUF)(data)) == ORDER_JSON


def test_protobuf_finds_the_message_of_the_indexes() -> None:
    decode = decoder(PROTOBUF)
    assert json.loads(decode(b"\x00")) == {}  # the file's first message has no fields
    line = message("shop.Order.Line")(sku="A-1").SerializeToString()
    assert json.loads(decode(b"\x04\x02\x00" + line)) == {"sku": "A-1"}
    assert json.loads(decode(b"\x02\x02"))["state"] == "NEW"


def test_the_json_of_a_json_schema_stays_as_it_is() -> None:
    decode = decoder(Source("JSON", '{"type": "object"}', {}))
    assert decode(b'{"a":  1.0}') == b'{"a":  1.0}'
    with pytest.raises(ValueError):
        decode(b"{")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x02", b"\xff" * 20],
)
def test_avro_bytes_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever the library raises
        decoder(AVRO)(data)


def test_avro_bytes_that_are_left_over_are_refused() -> None:
    with pytest.raises(ValueError, match="1 bytes are left over"):
        decoder(Source("AVRO", '"string"', {}))(b"\x02a\x00")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x02", b"\x02\x63", b"\x01", b"\x02\x01", b"\xff" * 11, b"\x02\x02\x0a\xff"],
    ids=["empty", "no index", "no such message", "count -1", "index -1", "endless", "cut"],
)
def test_protobuf_bytes_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever the library raises
        decoder(PROTOBUF)(data)


@pytest.mark.parametrize(
    "source",
    [
        Source("THRIFT", "", {}),
        Source("AVRO", "{", {}),
        Source("AVRO", '"shop.Nobody"', {}),
        Source("PROTOBUF", "no base64!", {}),
        Source("PROTOBUF", text(FileDescriptorProto(dependency=["shop/nowhere.proto"])), {}),
    ],
    ids=["kind", "no JSON", "no reference", "no base64", "no import"],
)
def test_a_schema_that_cannot_be_used_is_refused(source: Source) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever the library raises
        decoder(source)
