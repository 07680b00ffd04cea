"""Every seam of ofevents on one page: what crosses it, and what returning means.

**Returning is the acknowledgement.** Each seam is an awaited call, and nothing
upstream is acknowledged before everything downstream is settled:

    Source --emit--> Bus.publish ... Bus.consume --Received--> Subscriber.deliver (--> Sink.send)

Over a port only errors of `ofevents.errors` are raised; a cancelled call is not
acknowledged. Retry, reconnecting, limits and shutdown belong to the engine
(`source`, `trigger`), never to an adapter: an adapter that loses its connection
raises `Disconnected` and is run again after a backoff.
"""

from ofevents.ports.bus import (
    Bus,
    BusFeatures,
    BusReport,
    Consumer,
    ConsumerReport,
    Handler,
    Received,
    TopicReport,
)
from ofevents.ports.sink import Format, Sink
from ofevents.ports.source import Emit, Source, SourceFeatures, SourceIdentity
from ofevents.ports.store import Entry, Store
from ofevents.ports.subscriber import Subscriber
from ofevents.ports.values import DONE, Delivery, Message, Payload, Reply, Verdict, retry

__all__ = [
    "DONE",
    "Bus",
    "BusFeatures",
    "BusReport",
    "Consumer",
    "ConsumerReport",
    "Delivery",
    "Emit",
    "Entry",
    "Format",
    "Handler",
    "Message",
    "Payload",
    "Received",
    "Reply",
    "Sink",
    "Source",
    "SourceFeatures",
    "SourceIdentity",
    "Store",
    "Subscriber",
    "TopicReport",
    "Verdict",
    "retry",
]
