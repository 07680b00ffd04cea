"""Schemas of orders for the tests of the schema registry, in Avro and Protobuf."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP

MONEY = json.dumps(
    {"type": "record", "name": "Money", "namespace": "shop", "fields": [
        {"name": "amount", "type": "long"}, {"name": "currency", "type": "string"}]}
)  # fmt: skip
ORDER = json.dumps(
    {"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "string"},
        {"name": "total", "type": "shop.Money"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "rate", "type": {"type": "bytes", "logicalType": "decimal",
                                  "precision": 6, "scale": 2}},
        {"name": "raw", "type": "bytes"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "tags", "type": {"type": "map", "values": "int"}}]}
)  # fmt: skip


def _money() -> FileDescriptorProto:
    file = FileDescriptorProto(name="shop/money.proto", package="shop", syntax="proto3")
    message = file.message_type.add(name="Money")
    message.field.add(name="amount", number=1, type=Field.TYPE_INT64, label=1)
    message.field.add(name="currency", number=2, type=Field.TYPE_STRING, label=1)
    return file


def _order() -> FileDescriptorProto:
    file = FileDescriptorProto(name="shop/order.proto", package="shop", syntax="proto3")
    file.dependency.extend(["shop/money.proto", TIMESTAMP.name])
    state = file.enum_type.add(name="State")
    state.value.add(name="NEW", number=0)
    state.value.add(name="PAID", number=1)
    file.message_type.add(name="First")
    message = file.message_type.add(name="Order")
    line = message.nested_type.add(name="Line")
    line.field.add(name="sku", number=1, type=Field.TYPE_STRING, label=1)
    entry = message.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=Field.TYPE_UINT64, label=1)
    add = message.field.add
    add(name="order_id", number=1, type=Field.TYPE_STRING, label=1)
    add(name="total", number=2, type=Field.TYPE_MESSAGE, type_name=".shop.Money", label=1)
    add(name="lines", number=3, type=Field.TYPE_MESSAGE, type_name=".shop.Order.Line", label=3)
    add(name="state", number=4, type=Field.TYPE_ENUM, type_name=".shop.State", label=1)
    add(name="counts", number=5, type=Field.TYPE_MESSAGE, label=3,
        type_name=".shop.Order.CountsEntry")  # fmt: skip
    add(name="at", number=6, type=Field.TYPE_MESSAGE, label=1,
        type_name=".google.protobuf.Timestamp")  # fmt: skip
    add(name="raw", number=7, type=Field.TYPE_BYTES, label=1)
    return file


def text(file: FileDescriptorProto) -> str:
    """As a registry has it."""
    return base64.b64encode(file.SerializeToString()).decode()


MONEY_FILE, ORDER_FILE = _money(), _order()
Default().Add(MONEY_FILE)
Default().Add(ORDER_FILE)


def message(name: str) -> Any:
    """The class of a message such as `shop.Order` or `shop.Order.Line`."""
    return GetMessageClass(Default().FindMessageTypeByName(name))


def order() -> Any:
    """A message with something in most fields; `raw` is at its default."""
    made = message("shop.Order")(order_id="7", state=1)
    made.total.amount, made.total.currency = 2**53 + 1, "EUR"
    made.lines.add(sku="A-1")
    made.lines.add()
    made.counts["a"] = 2**64 - 1
    made.at.FromJsonString("2026-01-31T12:00:00.5Z")
    return made


ORDER_JSON = {
    "order_id": "7",
    "total": {"amount": 2**53 + 1, "currency": "EUR"},
    "lines": [{"sku": "A-1"}, {"sku": ""}],
    "state": "PAID",
    "counts": {"a": 2**64 - 1},
    "at": "2026-01-31T12:00:00.500Z",
    "raw": "",
}
"""The order as data."""
