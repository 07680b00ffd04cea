"""Avro, Protobuf and JSON Schema values as JSON; pure, called by `kafka_registry`.

A JSON Schema's value is JSON already, and its bytes stay as they are. The forms of the
others are JSON's where it has one: a timestamp is RFC 3339, bytes are base64, a decimal is
a text, as a number would be rounded. A Protobuf message has its fields by their
names in the schema, the ones at their default value included, 64-bit integers as
numbers, enums by name.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

Decode = Callable[[bytes], bytes]
"""What follows a value's frame -> JSON; raises anything for bytes that do not fit."""

_ROOT: Final = "ofevents.root"


@dataclass(frozen=True, slots=True)
class Source:
    """A schema as the registry has it.

    Attributes:
        kind: AVRO, PROTOBUF or JSON.
        text: of the schema; of Protobuf the file's descriptor, serialised, in base64.
        references: the texts of other schemas by the names that it uses, in an order in
            which each has what it needs before it.
    """

    kind: str
    text: str
    references: Mapping[str, str]


def decoder(source: Source) -> Decode:
    """The decoder of a schema; raises anything where it cannot be used."""
    makers = {"AVRO": _avro, "PROTOBUF": _protobuf, "JSON": _json}
    if source.kind not in makers:
        raise ValueError(f"its type {source.kind} is none of {', '.join(makers)}")
    return makers[source.kind](source)


def plain(value: Any) -> Any:
    """The value of JSON types only."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    return value


# -- JSON Schema ----------------------------------------------------------------


def _json(source: Source) -> Decode:
    def decode(data: bytes) -> bytes:
        orjson.loads(data)  # what the writer has checked besides, `dataSchema` can check again
        return data

    return decode


# -- Avro -----------------------------------------------------------------------


def _avro(source: Source) -> Decode:
    from fastavro import schemaless_reader
    from fastavro.repository.base import AbstractSchemaRepository
    from fastavro.schema import load_schema

    named: dict[str, Any] = {_ROOT: json.loads(source.text)}
    for name, text in source.references.items():
        named[name] = json.loads(text)
        if isinstance(named[name], dict) and "name" in named[name]:
            own, space = named[name]["name"], named[name].get("namespace")
            named[f"{space}.{own}" if space and "." not in own else own] = named[name]

    class Repository(AbstractSchemaRepository):
        def load(self, subject: str) -> Any:
            return json.loads(json.dumps(named[subject]))

    schema = load_schema(_ROOT, repo=Repository())

    def decode(data: bytes) -> bytes:
        stream = io.BytesIO(data)
        value = schemaless_reader(stream, schema, None)
        if left := len(data) - stream.tell():
            raise ValueError(f"{left} bytes are left over")
        return orjson.dumps(plain(value))

    return decode


# -- Protobuf -------------------------------------------------------------------


def _protobuf(source: Source) -> Decode:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    for name, text in {**source.references, _ROOT: source.text}.items():
        _add(pool, name, text)
    file: Any = pool.FindFileByName(_ROOT)

    def decode(data: bytes) -> bytes:
        indexes, at = _indexes(data)
        types = list(file.message_types_by_name.values())
        message_type = types[indexes[0]]
        for index in indexes[1:]:
            message_type = message_type.nested_types[index]
        message = GetMessageClass(message_type)()
        message.ParseFromString(data[at:])
        return orjson.dumps(plain(_fields(message)))

    return decode


def _add(pool: Any, name: str, text: str) -> None:
    """Put a file into the pool, and those of Google's that it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto.FromString(base64.b64decode(text))
    file.name = name
    for imported in file.dependency:
        _add_known(pool, imported)
    pool.Add(file)


def _add_known(pool: Any, name: str) -> None:
    from google.protobuf import (  # noqa: F401 - importing them puts them into the default pool
        any_pb2,
        api_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import Default

    try:
        pool.FindFileByName(name)
        return  # a reference, or added already
    except KeyError:
        known: Any = Default().FindFileByName(name)
    for inner in known.dependencies:
        _add_known(pool, inner.name)
    file = FileDescriptorProto()
    known.CopyToProto(file)
    pool.Add(file)


def _indexes(data: bytes) -> tuple[list[int], int]:
    """Which message of the file, of its nested ones and so on; and where it begins.

    Zigzag numbers, the first their count; one 0 stands for the file's first message.
    """
    count, at = _number(data, 0)
    if count == 0:
        return [0], at
    indexes = []
    for _ in range(count):
        index, at = _number(data, at)
        if index < 0:
            raise ValueError(f"a message index of {index}")
        indexes.append(index)
    if not indexes:
        raise ValueError(f"a count of {count} message indexes")
    return indexes, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a message index of more than 64 bits")


def _fields(message: Any) -> Any:
    """A message as JSON types; Google's own types as their JSON mapping has them."""
    from google.protobuf import json_format

    if message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        return json_format.MessageToDict(message)
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            of = entry.fields_by_name["value"]
            found[field.name] = {_key(key): _one(of, value[key]) for key in value}
        elif field.is_repeated:
            found[field.name] = [_one(field, each) for each in value]
        else:
            found[field.name] = _one(field, value)
    return found


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _fields(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value
