"""A NATS message as Events; called once per message by `nats_core` and `nats_jetstream`.

- **A CloudEvent stays what it is** (promise 3), as the NATS binding of CloudEvents has
  it: structured (content-type `application/cloudevents+json`, or a JSON body that is
  one), or binary (`ce-` headers, percent-encoded as in HTTP). A batch
  (`application/cloudevents-batch+json`) becomes all its events.
- **Any other message** becomes type `ofevents.nats` with its bytes unchanged and the
  NATS subject as `subject`. Headers become extensions `natsheader<name>` (lower-case
  letters and digits); the rest are the rules of `ofevents.event.record`.
- **A message that claims to be a CloudEvent and is none** becomes a `BrokenEvent` of
  type `ofevents.nats.malformed`, which the EventSource dead-letters.

A JetStream message has the id `stream/sequence@milliseconds`, the same whenever it comes
again. The time of storage is in it for the reason it is in Kafka's: a stream that is
deleted and made again counts from 1, and the bus would take its first messages for
duplicates of the old ones. A core NATS message has no identity: a random id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, format_time, from_http
from ofevents.event.record import CONTROL, broken, embedded, extension, plain

TYPE: Final = "ofevents.nats"
MALFORMED: Final = "ofevents.nats.malformed"


class Record(Protocol):
    """What we read of nats-py's Msg."""

    subject: str
    data: bytes
    headers: dict[str, str] | None
    reply: str


def events_of(record: Record, source: str, id: str, time: float) -> list[Event]:
    """The events of a message, one but for a batch; never fails.

    Args:
        source, id, time: the CloudEvents attributes of a message that is no CloudEvent;
            time in Unix seconds.
    """
    # The last of equal names: a claim is judged by what it says, not by its spelling.
    headers = {name.lower(): value for name, value in (record.headers or {}).items()}
    try:
        found = from_http(headers, record.data) if headers else None
    except BadEvent as error:
        return [
            broken(_attributes(record, headers, source, id, time, MALFORMED), record.data, error)
        ]
    if found is not None:
        return found
    whole = embedded(record.data)
    if whole is not None:
        return [whole]
    attributes = _attributes(record, headers, source, id, time, TYPE)
    return [plain(attributes, record.data, headers.get("content-type"))]


def _attributes(
    record: Record, headers: Mapping[str, str], source: str, id: str, time: float, kind: str
) -> dict[str, Scalar]:
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "subject": record.subject,
        "time": format_time(time),
    }
    for name, text in headers.items():
        extended = extension("natsheader", name)
        if extended and name != "content-type":
            attributes[extended] = CONTROL.sub(" ", text)
    return attributes


# -- JetStream ------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Taken:
    """A message in hand.

    Its reply subject tells where it is from: `$JS.ACK.<stream>.<consumer>.<deliveries>.
    <sequence>.<consumer's sequence>.<stored, ns>.<pending>`, on some servers with
    domain and account after `$JS.ACK`.
    """

    message: Record

    @property
    def reply(self) -> str:
        return self.message.reply

    @property
    def size(self) -> int:
        return len(self.message.data)

    def _tokens(self) -> list[str]:
        tokens = self.reply.split(".")
        return tokens if len(tokens) == 9 else tokens[2:]

    @property
    def attempt(self) -> int:
        return int(self._tokens()[4])

    def events(self, source: str) -> list[Event]:
        """What becomes of it; the same ids each time it comes."""
        tokens = self._tokens()
        stored = int(tokens[7])
        id = f"{tokens[2]}/{tokens[5]}@{stored // 1_000_000}"
        return events_of(self.message, source, id, stored / 1e9)
