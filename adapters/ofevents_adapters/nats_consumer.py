"""The durable consumer on JetStream: found, made, or brought up to date.

`nats` asks for it after each connect. A consumer made here carries our mark (`_MARK`,
in its metadata) and follows the spec: filter, ackWait and maxAckPending are brought up
to date, its position is kept. A consumer without the mark is the user's and is used
as it is, if it can do what the source promises.

The server is asked in its own JSON: nats-py's classes leave out what they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import orjson

from ofevents.api.messaging import NatsStream
from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.ports import SourceIdentity
from ofevents.process import end_if_cancelled
from ofevents_adapters.nats_config import Settings
from ofevents_adapters.nats_connection import ANSWER, Connection

NANO: Final = 1_000_000_000
_MARK: Final = "ofevents.source"
_NO_STREAM: Final = 10059


@dataclass(frozen=True, slots=True)
class Consumer:
    """What a session needs to know of it; None is no limit.

    Attributes:
        ack_wait: seconds after which an open message comes again.
        most: messages in hand at most, of all workers together.
        batch: messages that one request may ask for.
        bytes: bytes that one request may ask for.
        expires: seconds that a request may wait.
    """

    stream: str
    name: str
    ack_wait: float
    most: int | None
    batch: int | None
    bytes: int | None
    expires: float | None


class Consumers:
    """The consumer of one source, over one connection."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        stream: NatsStream,
        identity: SourceIdentity,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._stream = stream
        self._owner = identity.writer
        self._path = f"{settings.path}.jetstream"
        self._place = f"{stream.stream}.{settings.durable}"

    async def ensure(self) -> Consumer:
        """The consumer, there and as it should be.

        Raises:
            Disconnected: there is no such stream, or JetStream does not answer.
            ConfigError: the server refuses it, or the user's own cannot be used.
        """
        try:
            config = await self._find()
            if config is None:
                config = await self._write(self._new())
            elif config.get("metadata", {}).get(_MARK) == self._owner:
                config.pop("filter_subject", None)
                config.pop("filter_subjects", None)
                config = await self._write(config | self._wanted())
            else:
                self._check_foreign(config)
        except (_Refused, nats.errors.Error, TimeoutError) as error:
            raise self._meaning(error) from error
        return self._read(config)

    async def pending(self) -> int | None:
        """Messages not handed out yet; None where the server does not say."""
        try:
            answer = await self._ask(f"CONSUMER.INFO.{self._place}")
        except (_Refused, nats.errors.Error, TimeoutError):
            return None
        return int(answer.get("num_pending", 0))

    # -- asking ---------------------------------------------------------------------

    async def _ask(self, subject: str, **body: Any) -> dict[str, Any]:
        text = orjson.dumps(body) if body else b""
        answer = await self._connection.client.request(f"$JS.API.{subject}", text, timeout=ANSWER)
        end_if_cancelled()
        found: dict[str, Any] = orjson.loads(answer.data)
        if (error := found.get("error")) is not None:
            raise _Refused(error)
        return found

    async def _find(self) -> dict[str, Any] | None:
        try:
            config: dict[str, Any] = (await self._ask(f"CONSUMER.INFO.{self._place}"))["config"]
        except _Refused as refused:
            if refused.code != 404 or refused.number == _NO_STREAM:
                raise
            return None
        return config

    async def _write(self, config: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask(
            f"CONSUMER.DURABLE.CREATE.{self._place}", stream_name=self._stream.stream, config=config
        )
        written: dict[str, Any] = answer["config"]
        return written

    def _new(self) -> dict[str, Any]:
        return {
            "durable_name": self._settings.durable,
            "description": f"ofevents {self._owner}"[:1000],
            "deliver_policy": self._stream.start,
            "ack_policy": "explicit",
            "max_deliver": -1,
            "metadata": {_MARK: self._owner},
            **self._wanted(),
        }

    def _wanted(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "ack_wait": int(self._stream.ack_wait * NANO),
            "max_ack_pending": self._stream.max_ack_pending,
        }
        if self._settings.subjects:
            wanted["filter_subjects"] = list(self._settings.subjects)
        return wanted

    # -- what the server says ---------------------------------------------------------

    def _check_foreign(self, config: dict[str, Any]) -> None:
        if (why := self._unusable(config)) is not None:
            raise ConfigError(
                f"consumer {self._settings.durable} of stream {self._stream.stream} {why}",
                path=f"{self._path}.durable",
            )

    def _unusable(self, config: dict[str, Any]) -> str | None:
        if owner := config.get("metadata", {}).get(_MARK):
            return (
                f"belongs to {owner}, and two sources would take each other's messages: "
                "name another one"
            )
        if config.get("deliver_subject"):
            return "is a push consumer; expected a pull consumer"
        if config.get("ack_policy") != "explicit":
            return (
                f"has the ack policy {config.get('ack_policy')}; expected explicit, so that no "
                "message is acknowledged before its event is stored"
            )
        theirs = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        if self._settings.subjects and sorted(theirs) != sorted(self._settings.subjects):
            return (
                f"exists and reads {', '.join(theirs)}; leave out subject to use it as it is, or "
                "name another consumer"
            )
        return None

    def _read(self, config: dict[str, Any]) -> Consumer:
        expires = config.get("max_expires") or 0
        most = config.get("max_ack_pending") or 0
        return Consumer(
            stream=self._stream.stream,
            name=self._settings.durable,
            ack_wait=(config.get("ack_wait") or int(self._stream.ack_wait * NANO)) / NANO,
            most=most if most > 0 else None,
            batch=config.get("max_batch") or None,
            bytes=config.get("max_bytes") or None,
            expires=expires / NANO if expires else None,
        )

    def _meaning(self, error: Exception) -> OfeventsError:
        where, stream = self._connection.where, self._stream.stream
        consumer = f"consumer {self._settings.durable} of stream {stream}"
        if isinstance(error, nats.errors.NoRespondersError):
            return Disconnected(
                f"no JetStream answers at nats-server {where}: switch it on for this account, or "
                "leave out jetstream"
            )
        if not isinstance(error, _Refused):
            return self._connection.failed(error, consumer)
        if error.code == 404:
            return Disconnected(f"nats-server {where} has no stream {stream!r}: create it")
        if error.code == 400:
            return ConfigError(
                f"nats-server {where} refuses {consumer}: {error.text}", path=self._path
            )
        return Disconnected(f"nats-server {where}: {consumer}: {error.text}")


class _Refused(Exception):
    """An error that the server answers: HTTP-like `code`, its own `number`, a `text`."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.number = int(error.get("err_code", 0))
        self.text = str(error.get("description", ""))
        super().__init__(self.text)
