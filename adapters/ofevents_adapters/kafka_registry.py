"""Values that were written with a schema registry: which schema, and what it makes of them.

Called by the lanes of `kafka` for each record where the spec names a registry. A value
begins with a byte 0 and the number of its schema (Confluent's framing), or the header
`__value_schema_id` has the schema's GUID; `kafka_decode` turns the rest into JSON. What is
fetched is kept, so a registry is asked once for each schema.

- A value that cannot be decoded (no frame, an unknown schema, bytes that do not fit it)
  becomes a `BrokenEvent` with the record's bytes, which the EventSource dead-letters.
- A registry that is away is Disconnected: the records stay where they are. One that
  refuses the login is a ConfigError.
- A tombstone and a structured CloudEvent are taken as they are: no schema was used.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from ofevents.api.kafka import SchemaRegistry
from ofevents.api.meta import Tls, reveal
from ofevents.api.tls import client_context
from ofevents.errors import BadEvent, ConfigError, Disconnected, OfeventsError
from ofevents.event import Event
from ofevents_adapters.kafka_decode import Decode, Source, decoder
from ofevents_adapters.kafka_record import Decoded, Record, event_of, is_structured, undecodable

_ID_HEADER: Final = "__value_schema_id"
_FRAME: Final = 5
_GUID: Final = 17
_TIMEOUT: Final = 10
"""Seconds for one question to the registry."""


class Registry:
    """A registry's schemas, as decoders; used as `async with`."""

    def __init__(self, spec: SchemaRegistry, path: str) -> None:
        """`path` is of the field in the document, for errors."""
        self._path = path
        self._shown = spec.url
        self._base = spec.url.partition(",")[0].strip().rstrip("/")
        self._client = _client(spec)
        self._decoders: dict[int | str, Decode] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def event_of(self, record: Record, source: str) -> Event:
        """The event of a record, its data decoded.

        Raises:
            Disconnected: the registry does not answer.
            ConfigError: it refuses us.
        """
        value = record.value()
        if value is None or is_structured(record):
            return event_of(record, source)
        try:
            schema, rest = _frame(record, value)
            decode = self._decoders.get(schema) or await self._fetch(schema)
            text = self._decoded(decode, schema, rest)
        except BadEvent as error:
            return undecodable(record, source, error)
        event = event_of(Decoded(record, text), source)
        if "dataschema" in event.attributes or event.type.endswith(".malformed"):
            return event
        kind = "ids" if isinstance(schema, int) else "guids"
        return event.replace(dataschema=f"{self._base}/schemas/{kind}/{schema}")

    def _decoded(self, decode: Decode, schema: int | str, rest: bytes) -> bytes:
        try:
            return decode(rest)
        except Exception as error:  # the libraries raise whatever a wrong byte leads to
            reason = f"{type(error).__name__}: {error}"
            raise BadEvent(f"the value does not fit schema {schema}: {reason[:300]}") from error

    async def _fetch(self, schema: int | str) -> Decode:
        source = await self._asked(lambda: self._source(schema), f"schema {schema}")
        try:
            made = decoder(source)
        except Exception as error:  # as above: a schema that cannot be read
            reason = f"{type(error).__name__}: {error}"
            raise BadEvent(f"schema {schema} cannot be used: {reason[:300]}") from error
        self._decoders[schema] = made
        return made

    async def _source(self, schema: int | str) -> Source:
        # `serialized` concerns Protobuf; the other types have one form.
        if isinstance(schema, int):
            found = await self._client.get_schema(schema, fmt="serialized")
        else:
            found = await self._client.get_schema_by_guid(schema, fmt="serialized")
        return Source(found.schema_type or "AVRO", found.schema_str, await self._references(found))

    async def _references(self, schema: Any) -> dict[str, str]:
        """The texts of what a schema refers to, by name; what those refer to comes first."""
        found: dict[str, str] = {}
        for reference in schema.references or ():
            version = await self._client.get_version(
                reference.subject, reference.version, True, fmt="serialized"
            )
            found |= await self._references(version.schema)
            found[reference.name] = version.schema.schema_str
        return found

    async def _asked(self, question: Callable[[], Any], what: str) -> Source:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            answer: Source = await question()
        except SchemaRegistryError as error:
            raise self._meaning(error, what) from error
        except Exception as error:  # its HTTP client's, which it passes on
            reason = str(error) or type(error).__name__
            raise Disconnected(f"schema registry {self._shown}: {what}: {reason}") from error
        return answer

    def _meaning(self, error: Any, what: str) -> OfeventsError:
        status, text = error.http_status_code, f"schema registry {self._shown}: {what}: {error}"
        if status in (401, 403):
            return ConfigError(f"{text}; check the login", path=self._path)
        if status == 429 or status >= 500:
            return Disconnected(text)
        return BadEvent(text)


def _frame(record: Record, value: bytes) -> tuple[int | str, bytes]:
    """The schema's number or GUID, and what it describes."""
    for name, header in record.headers() or ():
        if name == _ID_HEADER and header is not None and len(header) >= _GUID:
            # What follows the GUID are the indexes of a Protobuf message.
            return str(uuid.UUID(bytes=header[1:_GUID])), header[_GUID:] + value
    if len(value) < _FRAME or value[0] != 0:
        raise BadEvent(
            "the value was not written with a schema registry: expected a byte 0 and the "
            f"schema's number, found {value[:_FRAME].hex(' ')}"
        )
    return int.from_bytes(value[1:_FRAME], "big"), value[_FRAME:]


def check_registry(spec: SchemaRegistry, path: str) -> None:
    """Raise ConfigError where a field is wrong, or two contradict each other."""
    urls = [one.strip() for one in spec.url.split(",")]
    for text in urls:
        shown = text.rpartition("@")[2]
        try:
            url = urlsplit(text)
            host, _ = url.hostname, url.port
        except ValueError as error:
            raise ConfigError(f"{shown} is no address: {error}", path=f"{path}.url") from None
        if url.scheme not in ("http", "https") or not host:
            raise ConfigError(
                f"{shown or 'nothing'} is no address; expected https://HOST:PORT",
                path=f"{path}.url",
            )
        if "@" in url.netloc:
            raise ConfigError(
                "the address is shown to people; give username and password", path=f"{path}.url"
            )
    user, password = reveal(spec.username), reveal(spec.password)
    if bool(user) != bool(password):
        raise ConfigError("a login needs both username and password", path=path)
    if user and ":" in user:
        raise ConfigError("a user of HTTP Basic has no colon", path=f"{path}.username")
    if spec.tls is not None:
        if not all(text.startswith("https://") for text in urls):
            raise ConfigError("TLS needs https:// addresses", path=f"{path}.tls")
        client_context(spec.tls, f"{path}.tls")


def _client(spec: SchemaRegistry) -> Any:
    # Half a second to import, and few sources have a registry.
    from confluent_kafka.schema_registry import AsyncSchemaRegistryClient

    conf: dict[str, Any] = {
        "url": spec.url,
        "timeout": _TIMEOUT,
        "max.retries": 1,  # the engine tries again
        "retries.wait.ms": 100,
        "cache.capacity": 1,  # the decoders are kept by us
    }
    user, password = reveal(spec.username), reveal(spec.password)
    if user:
        conf["basic.auth.user.info"] = f"{user}:{password}"
    if not spec.url.startswith("https"):
        return AsyncSchemaRegistryClient(conf)
    # It takes files, which it reads when it is made.
    with tempfile.TemporaryDirectory() as folder:
        return AsyncSchemaRegistryClient({**conf, **_tls(spec.tls or Tls(), folder)})


def _tls(tls: Tls, folder: str) -> dict[str, Any]:
    texts = {
        "ssl.ca.location": reveal(tls.ca),
        "ssl.certificate.location": reveal(tls.cert),
        "ssl.key.location": reveal(tls.key),
    }
    conf: dict[str, Any] = {}
    for name, text in texts.items():
        if text:
            conf[name] = os.path.join(folder, name)
            with open(os.open(conf[name], os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)
    if tls.insecure_skip_verify:
        conf["ssl.ca.location"] = False
    elif not tls.ca:
        system = ssl.get_default_verify_paths()
        if (found := system.cafile or system.capath) is not None:
            conf["ssl.ca.location"] = found
    return conf
