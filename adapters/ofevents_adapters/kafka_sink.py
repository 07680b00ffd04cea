"""The `kafka` sink: events become records of a Kafka topic.

    send -> librdkafka's queue -> batches -> brokers -> delivery report (its thread) -> send

The producer is idempotent and every replica in sync confirms, so records of one key are
in the order in which they were sent, also when librdkafka has to send them again. It
reconnects by itself. A record's form is the Kafka binding of CloudEvents: `binary` (`ce_`
headers), `structured`, or the data alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from ofevents.api.sink import KafkaSink as Spec
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
from ofevents_adapters.kafka_config import explain, producer_config

STRUCTURED: Final = "application/cloudevents+json; charset=UTF-8"

_POLL: Final = 0.25
"""Seconds that the thread waits for a report; also how late it may learn of the end."""
_LEAVE: Final = 2.0
_AGAIN: Final = 0.01
"""Seconds until a full queue is tried again."""

_LOGIN: Final = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
_FORBIDDEN: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_NO_TOPIC: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_SIZE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_REFUSED: Final = {KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG}
_OF_THE_BATCH: Final = _SIZE | _REFUSED
"""What a broker says of a whole batch, innocent records included."""

Headers = list[tuple[str, str | bytes | None]]
Record = tuple[bytes | None, bytes | None, Headers]
"""Key, value, headers."""


class KafkaSink:
    """Writes to one topic; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._spec = spec
        self._format: Format = format
        self._config = producer_config(spec, timeout)
        self._clock = clock
        self._writer: _Writer | None = None
        self._single: _Writer | None = None
        self.address = f"Kafka topic {spec.topic} at {','.join(spec.brokers)}"

    async def __aenter__(self) -> Self:
        """Make the client, which connects by itself.

        Raises:
            ConfigError: librdkafka refuses a setting.
        """
        self._get(single=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in (self._writer, self._single):
            if writer is not None:
                await writer.close()

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`."""
        record = record_of(event, self._format, key)
        error = await self._write(record, single=False)
        if error is not None and error.code() in _OF_THE_BATCH:
            # The record may have been beside the one that is meant: once more, on its own.
            error = await self._write(record, single=True)
        if error is not None:
            raise self._meaning(error, record)

    async def _write(self, record: Record, *, single: bool) -> KafkaError | None:
        """The broker's error, None where it has confirmed."""
        while True:
            writer = self._get(single=single)
            try:
                return await writer.write(self._spec.topic, record)
            except BufferError:
                await self._clock.sleep(_AGAIN)

    def _get(self, *, single: bool) -> _Writer:
        """The producer; a new one in place of one that can do no more."""
        writer = self._single if single else self._writer
        if writer is None or writer.broken:
            if writer is not None:
                writer.abandon()
            config = {**self._config, "batch.num.messages": 1} if single else self._config
            writer = _Writer(self._open, config)
            if single:
                self._single = writer
            else:
                self._writer = writer
        return writer

    def _open(self, config: Mapping[str, Any]) -> Producer:
        try:
            return Producer(dict(config))
        except (KafkaException, ValueError, TypeError) as error:
            raise explain(error, self._spec, "sink.kafka") from error

    def _meaning(self, error: KafkaError, record: Record) -> OfeventsError:
        code, text = error.code(), f"{self.address}: {error.str()}"
        if code in _SIZE:
            size = len(record[1] or b"")
            return TooLarge(f"{text}: {size} bytes of data are over the topic's max.message.bytes")
        if code in _REFUSED:
            return Rejected(text)
        if code in _LOGIN | _FORBIDDEN | _NO_TOPIC:
            hint = "; create the topic" if code in _NO_TOPIC else ""
            return Misconfigured(text + hint)
        problem = self._writer.problem if self._writer is not None else ""
        return Unavailable(f"{text} ({problem})" if problem else text)


class _Writer:
    """A producer, the thread that polls it, and who waits for its reports."""

    def __init__(self, open: Any, config: Mapping[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[KafkaError | None]] = set()
        self._reports: deque[tuple[asyncio.Future[KafkaError | None], KafkaError | None]] = deque()
        self._scheduled = False
        self._ending = threading.Event()
        self.broken = False
        """No record can be written with it any more."""
        self.problem = ""
        """What is known to be wrong with the connection."""
        self._producer: Producer = open({**config, "error_cb": self._on_error})
        self._thread = threading.Thread(target=self._run, name="ofevents-kafka-sink", daemon=True)
        self._thread.start()

    async def write(self, topic: str, record: Record) -> KafkaError | None:
        """The error of the record's report, None where it is stored.

        Raises:
            BufferError: librdkafka's queue is full.
        """
        report: asyncio.Future[KafkaError | None] = self._loop.create_future()
        key, value, headers = record

        def settled(error: KafkaError | None, _: object) -> None:
            self._tell(report, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=settled, headers=headers)
        except KafkaException as exception:
            refused: KafkaError = exception.args[0]
            self._judge(refused)
            return refused
        self._waiting.add(report)
        try:
            return await report
        finally:
            self._waiting.discard(report)

    async def close(self) -> None:
        """Throw away what nobody waits for any more, and end the thread."""
        await asyncio.to_thread(self._end)

    def abandon(self) -> None:
        """As `close`, without waiting for it."""
        threading.Thread(target=self._end, name="ofevents-kafka-sink-end", daemon=True).start()

    def _end(self) -> None:
        self._ending.set()
        self._thread.join()
        self._producer.purge()
        self._producer.flush(_LEAVE)

    # -- on the thread ----------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(_POLL)

    def _on_error(self, error: KafkaError) -> None:
        self._judge(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # the one before it says why
            self.problem = error.str()
        if error.code() in _LOGIN or error.fatal():
            # No report would come before the record's own time is over.
            self._loop.call_soon_threadsafe(self._fail, error)

    def _judge(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _NO_TOPIC:
            self.broken = True

    def _tell(self, report: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
        """Hand a report to the loop; one wake-up for all that come at once."""
        if error is not None:
            self._judge(error)
        else:
            self.problem = ""
        self._reports.append((report, error))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:
                pass  # the loop is closed: nobody waits

    # -- on the loop ------------------------------------------------------------

    def _resolve(self) -> None:
        self._scheduled = False
        while self._reports:
            report, error = self._reports.popleft()
            if not report.done():
                report.set_result(error)

    def _fail(self, error: KafkaError) -> None:
        self._producer.purge(in_flight=False, blocking=False)
        for report in self._waiting:
            if not report.done():
                report.set_result(error)


def record_of(event: Event, format: Format, key: str | None) -> Record:
    """The record of an event.

    Raises:
        BadEvent: an attribute is no text that UTF-8 can carry.
    """
    try:
        return None if key is None else key.encode(), *_contents(event, format)
    except (UnicodeEncodeError, TypeError) as error:
        raise BadEvent(f"event {event.id[:80]!r} cannot be written: {error}") from error


def _contents(event: Event, format: Format) -> tuple[bytes | None, Headers]:
    if format == "structured":
        return event.to_json(), [("content-type", STRUCTURED.encode())]
    headers: Headers = []
    if event.data is not None or event.datacontenttype is not None:
        headers.append(("content-type", (event.datacontenttype or "application/json").encode()))
    if format == "binary":
        for name, value in event.attributes.items():
            if name != "datacontenttype":
                text = value if isinstance(value, str) else str(value).lower()
                headers.append((f"ce_{name}", text.encode()))
    return event.data, headers
