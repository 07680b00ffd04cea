"""SinkSubscriber: which events go to a broker, their key, the deadline; dead letters there."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import pytest

from ofevents import registry
from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import (
    ConfigError,
    EvaluationError,
    Rejected,
    TemporaryError,
    Unavailable,
)
from ofevents.event import Event
from ofevents.ports import Delivery, Payload
from ofevents.subscriber import DeadLetters, TimedOut, open_subscriber
from tests.unit.subscriber.rig import OWNER, browse, delivery, event, memory_bus


class Broker:
    """A sink that keeps what it is sent, and raises what it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[Event, str | None]] = []
        self.errors: list[Exception] = []
        self.open = 0
        self.hangs = False
        self.built: dict[str, Any] = {}

    def __call__(self, spec: Any, **more: Any) -> _BrokerSink:
        self.built = {"spec": spec, **more}
        return _BrokerSink(self)

    @property
    def ids(self) -> list[str]:
        return [event.id for event, _ in self.sent]


class _BrokerSink:
    address = "topic paid at the test's broker"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __aenter__(self) -> Self:
        self._broker.open += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._broker.open -= 1

    async def send(self, event: Event, key: str | None) -> None:
        if self._broker.hangs:
            await asyncio.get_running_loop().create_future()
        if self._broker.errors:
            raise self._broker.errors.pop(0)
        self._broker.sent.append((event, key))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(registry, "load", lambda group, name: made)
    return made


def target(key: str | None = None, **spec: Any) -> SinkTarget:
    spec = {"brokers": "kafka:9092", "topic": "paid", **spec}
    return SinkTarget(sink="kafka", spec=spec, key=key)


def opened(target: SinkTarget, **options: Any) -> Any:
    return open_subscriber(
        target,
        bus=None,
        subscriber_id=OWNER,
        clock=SystemClock(),
        options=ResolvedDelivery(**options),
    )


async def test_the_sink_gets_its_model_and_how_it_is_called(broker: Broker) -> None:
    async with opened(target(), format="structured", timeout=7.0) as subscriber:
        assert broker.open == 1
        reply = await subscriber.deliver(delivery())
    assert reply.status == 202
    assert broker.open == 0
    assert broker.built["spec"].topic == "paid"
    assert (broker.built["format"], broker.built["timeout"]) == ("structured", 7.0)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, "customer 7"),
        ("event.id", "1"),
        ("string(event.data.amount)", "3"),
        ("event.data.amount", "3"),
        ("event.data.vip", "true"),
        ("event.data.nobody", None),
    ],
)
async def test_the_key_is_computed_from_the_event_as_it_is_sent(
    broker: Broker, key: str | None, expected: str | None
) -> None:
    data = Payload(b'{"amount": 3, "vip": true, "nobody": null}')
    async with opened(target(key)) as subscriber:
        given = delivery(event(data=b"{}", partitionkey="customer 7"), payload=data)
        await subscriber.deliver(given)
    assert [each for _, each in broker.sent] == [expected]


@pytest.mark.parametrize("key", ["event.data.missing", "event.data"])
async def test_a_key_that_cannot_be_computed_is_this_events_own_fault(
    broker: Broker, key: str
) -> None:
    async with opened(target(key)) as subscriber:
        with pytest.raises(EvaluationError):
            await subscriber.deliver(delivery())
    assert broker.sent == []


async def test_only_the_last_event_of_a_match_is_sent_and_all_of_a_batch(broker: Broker) -> None:
    events = tuple(event(str(n)) for n in range(4))
    async with opened(target()) as subscriber:
        await subscriber.deliver(delivery(*events))
    assert broker.ids == ["3"]
    async with opened(target(), batch_size=4) as subscriber:
        await subscriber.deliver(delivery(*events, payload=Payload(b"[]")))
    assert broker.ids[1:] == ["0", "1", "2", "3"]
    assert [event.data for event, _ in broker.sent[-2:]] == [b'{"amount": 3}', b"[]"]


async def test_a_batch_stops_where_an_event_is_not_confirmed(broker: Broker) -> None:
    broker.errors = [Unavailable("no")]
    async with opened(target(), batch_size=4) as subscriber:
        with pytest.raises(Unavailable):
            await subscriber.deliver(delivery(event("0"), event("1")))
    assert broker.ids == []


async def test_a_send_without_an_answer_ends_in_time(broker: Broker) -> None:
    broker.hangs = True
    async with opened(target(), timeout=0.05) as subscriber:
        with pytest.raises(TimedOut, match="topic paid at the test's broker has not confirmed"):
            await subscriber.deliver(delivery())


async def test_a_mistake_in_the_target_is_found_before_any_event(broker: Broker) -> None:
    for wrong, path in (
        (target("event.data ++"), "sink.kafka.key"),
        (target("event.dta"), "sink.kafka.key"),
        (target("1"), "sink.kafka.key"),
        (target(topik="x"), "sink.kafka.topik"),
    ):
        with pytest.raises(ConfigError) as found:
            async with opened(wrong):
                pass
        assert found.value.path == path
    assert broker.open == 0


async def test_an_unknown_sink_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no sink 'kafak'.*did you mean kafka"):
        async with opened(SinkTarget(sink="kafak", spec={})):
            pass


# -- dead letters ---------------------------------------------------------------


def letters(bus: Any) -> DeadLetters:
    return DeadLetters(
        bus=bus, target=target("event.id"), dead_topic="dead", owner="shop/charge",
        clock=ManualClock(),
    )  # fmt: skip


async def test_a_dead_letter_keeps_the_event_and_adds_why(broker: Broker) -> None:
    original = event("7", partitionkey="k")
    async with letters(None) as dead:
        failed = Delivery(OWNER, (original,), Payload(b"the payload"))
        error = Rejected("it is no order\nat all €")
        await dead.store(failed, error, attempts=3, where="delivery")
    ((sent, key),) = broker.sent
    assert key == "7"
    assert sent.data == original.data
    added = {k: v for k, v in sent.attributes.items() if k not in original.attributes}
    assert {k: sent.attributes[k] for k in original.attributes} == original.attributes
    assert added == {
        "deadletterreason": "Rejected",
        "deadletterdetail": r"it is no order at all \u20ac",
        "deadletterwhere": "delivery",
        "deadletterattempts": "3",
        "deadlettersubscriber": OWNER,
        "deadlettertime": "2023-11-14T22:13:20.000Z",
    }


async def test_a_dead_letter_that_the_broker_does_not_take_goes_to_the_bus(
    broker: Broker,
) -> None:
    broker.errors = [Unavailable("away"), Rejected("never")]
    async with memory_bus("sink-letters") as bus:
        await bus.ensure(["dead"], [])
        async with letters(bus) as dead:
            for _ in range(2):
                await dead.store(delivery(), Rejected("no"), attempts=1, where="delivery")
        assert len(await browse(bus, "dead")) == 2 - 1  # the same letter twice is stored once
    broker.errors = [Unavailable("away")]
    async with letters(None) as dead:
        with pytest.raises(TemporaryError, match="cannot be stored: away"):
            await dead.store(delivery(), Rejected("no"), attempts=1, where="delivery")
