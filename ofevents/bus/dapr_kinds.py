"""What each Dapr pub/sub component can do, and the settings that it must have.

Dapr hides the broker behind one API, but not what the broker does: this table says
what a bus on it promises. Read by the driver, by `validate` (which must not need
Dapr's client library, so nothing is imported here), and by whoever writes component
files. Measured with daprd 1.14; a type that is not in the table gets the weakest
promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from ofevents.ports import BusFeatures

Settings = Mapping[str, str]
"""A component's metadata."""

WEAKEST: Final = BusFeatures(
    durable=False,
    groups=True,
    ordered=False,
    delayed=False,
    deduplicates=False,
    store=False,
    browse=False,
    keeps=True,
    holds=False,
    wide=False,
    attempts=False,
    counts=False,
    removes=False,
    bounded=False,
    hop_headers=False,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of pub/sub component.

    Attributes:
        features: without a state component.
        way: how daprd hands messages over: in batches to the app's port, or one by one
            on a stream.
        lanes: components of one consumer group in one process; on a stream each has one
            message in hand.
        apart: a component serves one topic only, so each topic of a group has its own.
        group: the setting that names the consumer group, None where there are none.
        given: settings that a consumer's component gets where the user gives none, as
            functions of the ack wait in seconds and the lanes.
        wanted: settings that may have no other value, with the reason.
        trims: the setting with which a publish takes the oldest messages away, read or not.
        wait: the setting with the ack wait, and the seconds that Dapr takes a number
            without a unit for; where the user gives it, it is the bus's.
    """

    features: BusFeatures
    way: Literal["bulk", "stream"] = "stream"
    lanes: int = 1
    apart: bool = False
    group: str | None = "consumerID"
    given: Mapping[str, Callable[[float, int], str]] = field(default_factory=dict)
    wanted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    trims: str = ""
    wait: tuple[str, float] = ("", 0)


def _seconds(factor: float) -> Callable[[float, int], str]:
    return lambda ack_wait, lanes: f"{factor * ack_wait:g}s"


KINDS: Final[Mapping[str, Kind]] = {
    "pubsub.kafka": Kind(
        replace(WEAKEST, durable=True, ordered=True, hop_headers=True),
        way="bulk",
        lanes=1,
        group="consumerGroup",
        given={"initialOffset": lambda ack_wait, lanes: "oldest"},
        wanted={
            "initialOffset": (
                "oldest",
                "with newest, events that were handed out before the first commit are lost at "
                "the next rebalance",
            ),
            "consumeRetryEnabled": (
                "true",
                "with false each batch is tried once, and what meets no worker is lost",
            ),
            "backOffPolicy": (
                "constant",
                "with exponential Dapr skips an event after 15 minutes of tries",
            ),
        },
    ),
    "pubsub.jetstream": Kind(
        replace(WEAKEST, durable=True, deduplicates=True),
        lanes=8,
        apart=True,
        group="durableName",
        given={
            "ackWait": _seconds(1),
            # Dapr keeps what waits for a lane in memory while its ack wait runs.
            "maxAckPending": lambda ack_wait, lanes: str(max(32, 2 * lanes)),
        },
        wanted={
            "concurrency": (
                "single",
                "with parallel the component acknowledges a message before it is handled, so a "
                "crash loses it",
            ),
            "ackPolicy": ("explicit", "without it nothing is acknowledged after handling"),
            "deliverPolicy": ("all", "any other skips events that were published already"),
            "maxDeliver": (
                "-1",
                "a message that came so often to workers that died is lost: the broker hands it "
                "out no more",
            ),
            "memoryStorage": (
                "false",
                "with true the broker forgets at its restart what a consumer group has had",
            ),
        },
        wait=("ackWait", 1),
    ),
    "pubsub.redis": Kind(
        replace(WEAKEST, durable=True, wide=True),
        given={
            "concurrency": lambda ack_wait, lanes: "32",
            "queueDepth": lambda ack_wait, lanes: "32",
            "processingTimeout": _seconds(1),
            "redeliverInterval": _seconds(0.25),
        },
        wanted={
            "processingTimeout": ("", "with 0 what a dead consumer had in hand is lost"),
            "redeliverInterval": ("", "with 0 what a dead consumer had in hand is lost"),
        },
        trims="maxLenApprox",
        wait=("processingTimeout", 0.001),
    ),
    "pubsub.in-memory": Kind(
        replace(WEAKEST, groups=False, keeps=False, holds=True),
        group=None,
    ),
}


def kind_of(type: str) -> Kind:
    """The component type's; the weakest for one that is not known."""
    return KINDS.get(type, Kind(WEAKEST))


def known(type: str) -> bool:
    return type in KINDS


def features(type: str, *, store: bool) -> BusFeatures:
    """What a bus of that pub/sub component promises, with or without a state component.

    Due times are kept in the store, by the driver: Dapr has none.
    """
    return replace(kind_of(type).features, store=store, delayed=store)


def trimmed(type: str, settings: Settings) -> tuple[str, str] | None:
    """The setting that bounds what the broker keeps, and what that costs.

    It is no mistake: nothing else bounds such a bus, and how long somebody may be behind is
    for its owner to say. A component that only reads takes nothing away.
    """
    trims = kind_of(type).trims.lower()
    for name, value in settings.items():
        if trims and name.lower() == trims and value.strip().lstrip("0"):
            return name, (
                f"{name} takes the oldest messages of a topic away, read or not: what a Trigger or "
                f"an inbox is behind by more than {value} is lost"
            )
    return None


def mistakes(type: str, settings: Settings) -> list[tuple[str, str]]:
    """Settings that lose events: each with the sentence that says why it is refused."""
    found: list[tuple[str, str]] = []
    given = {name.lower(): (name, value) for name, value in settings.items()}
    for wanted, (value, why) in kind_of(type).wanted.items():
        name, is_now = given.get(wanted.lower(), (wanted, None))
        if is_now is None:
            continue
        if value and is_now.lower() != value.lower():
            found.append((name, f"{wanted} must be {value}, not {is_now}: {why}"))
        if not value and is_now.strip().rstrip("smh") in ("0", "-1"):
            found.append((name, f"{wanted} must be longer than 0: {why}"))
    if "backoffmaxretries" in given and given["backoffmaxretries"][1] != "-1":
        name = given["backoffmaxretries"][0]
        found.append(
            (
                name,
                "backOffMaxRetries makes Dapr skip an event after that many tries, and a bus has "
                "no dead letter topic of Dapr's: leave it out, deliveries have retries",
            )
        )
    for own in ("consumerID", "consumerGroup", "durableName", "queueGroupName"):
        if own.lower() in given:
            name = given[own.lower()][0]
            found.append((name, f"{own} is set by ofevents, for each consumer group: leave it out"))
    return found
