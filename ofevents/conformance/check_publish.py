"""What a bus owes to those who publish; part of the suite in `check_bus`."""

from __future__ import annotations

import asyncio
import time

from ofevents.conformance.bus_rig import (
    DEAD,
    GROUP,
    INBOX,
    PATIENCE,
    TOPIC,
    USER,
    BusRig,
    Check,
    Taken,
    consuming,
    drained,
    ensured,
    event,
    ids,
    messages,
    never,
    owed,
    raises,
    within,
)
from ofevents.conformance.verdict import NotConformant, require
from ofevents.errors import BadEvent, Disconnected, TooLarge
from ofevents.event import Event
from ofevents.ports import Consumer, Delivery, Message, Payload

DEADLINE = 20.0
"""Seconds in which a publish has an answer, whatever happens to the server: a driver's own
deadline, and what a busy machine adds to it."""

EVENTS = (
    event("json", data=b'{"a" : 1.50 ,\n "b":[ ]}'),
    Event.create(id="none", source="/s", type="t"),
    Event.create(id="empty", source="/s", type="t", data=b"", datacontenttype="text/plain"),
    Event.create(id="text", source="/s", type="t", data="grün\r\n", datacontenttype="text/plain"),
    Event.create(
        id="binary \u20ac",
        source="urn:x:\u4e2d",
        type="t",
        data=b"\x00\xff\r\n",
        datacontenttype="application/octet-stream",
        time="2026-01-31T12:00:00.123456789Z",
        subject="a/b?c",
        number=7,
        truth=True,
        partitionkey="k 1",
    ),
    event("liar", data=b"{not json"),
    event("big", data=b'"' + b"x" * 200_000 + b'"'),
)


async def round_trips_attributes_and_bytes(rig: BusRig) -> None:
    """Promise 3: identity, attributes and data come out exactly as they went in."""
    async with ensured(rig) as bus:
        sent = [Message(one, "writer", headers={"Traceparent": "00-ab-cd-01"}) for one in EVENTS]
        await bus.publish(TOPIC, *sent)
        taken = Taken()
        async with consuming(bus, taken):
            await taken.gets([one.id for one in EVENTS])
    got = {one.body.id: one for one in taken.seen if isinstance(one.body, Event)}
    for one in EVENTS:
        back = got[one.id]
        require(back.body == one, f"an event came back changed: {back.body} for {one}")
        require(back.headers.get("traceparent") == "00-ab-cd-01", "the hop's headers are kept")
        require(back.topic == TOPIC, f"topic is {back.topic!r}, not {TOPIC!r}")
        require(back.size == len(back.raw) > 0, "size is the bytes of the body")
        require(abs(back.stored - time.time()) < 60, "stored is the time of storage")


async def round_trips_deliveries(rig: BusRig) -> None:
    """Promise 6: an inbox and the dead letters keep the original events exactly."""
    delivery = Delivery(
        "default/billing/charge",
        EVENTS,
        payload=Payload(b'{"paid": 1}', "application/json"),
        key="k\u20ac",
        attempt=3,
        generation=2,
        operation="redrive-1",
        outages=1,
    )
    for topic in (INBOX, DEAD):
        async with ensured(rig, Consumer(topic, (topic,))) as bus:
            await bus.publish(
                topic, Message(delivery, "w", headers={"ofevents-reason": "Rejected"})
            )
            taken = Taken()
            async with consuming(bus, taken, topic, topic):
                await within(lambda taken=taken: bool(taken.seen), "the delivery is handed out")  # type: ignore[misc]
            back = taken.seen[0]
            require(back.body == delivery, f"a delivery came back changed from {topic}")
            require(back.headers["ofevents-reason"] == "Rejected", "why it is there is kept")


async def takes_a_delivery_of_its_largest_event(rig: BusRig) -> None:
    """An event that the bus took can always go to an inbox or the dead letters."""
    async with ensured(rig, Consumer(INBOX, (INBOX,))) as bus:
        pad = bus.max_size - len(event("largest", data=b'""').to_json())
        largest = event("largest", data=b'"' + b"x" * pad + b'"')
        require(len(largest.to_json()) == bus.max_size, "the check's own arithmetic")
        await bus.publish(TOPIC, Message(largest, "w"))
        await bus.publish(INBOX, owed(largest, key="k", attempt=5, generation=3))
        await bus.publish(DEAD, owed(largest, generation=4))


async def refuses_what_is_too_large(rig: BusRig) -> None:
    """Promise 6: over the limit is TooLarge, and nothing of that call is published."""
    async with ensured(rig) as bus:
        large = event("large", data=b'"' + b"x" * bus.max_size + b'"')
        await raises(
            TooLarge,
            bus.publish(TOPIC, *messages("before"), Message(large, "w"), *messages("after")),
            "a message over max_size raises TooLarge",
        )
        await bus.publish(TOPIC, *messages("next"))
        got = await drained(bus, wanted=["next"])
        require(got == ["next"], f"nothing of the refused call is published: {got}")


async def deduplicates(rig: BusRig) -> None:
    """Promise 3: the same message is stored once; another generation, source, writer or
    topic, and an operation, make another message."""
    one = event("1")
    kept = [
        Message(one, "writer"),
        Message(one, "writer", generation=1),
        Message(one, "another"),
        Message(event("1", source="/other"), "writer"),
        owed(one),
        owed(one, generation=1),
        owed(one, operation="redrive-1"),
    ]
    async with ensured(rig) as bus:
        for _ in range(2):
            for message in kept:
                await bus.publish(TOPIC, message)
        got = await drained(bus, wanted=["1"] * len(kept))
        require(len(got) == len(kept), f"{len(kept)} messages are stored once each, not {len(got)}")
        if not rig.features.counts:
            return
        await bus.publish(USER, kept[0])
        report = {one.topic: one.messages for one in (await bus.inspect()).topics}
        require(report.get(USER) == 1, "the same event on another topic is another message")


async def keeps_back_until_due(rig: BusRig) -> None:
    """A delivery that is due later is counted, kept back by the bus, and stored once.

    It is later than both its publishes, or they may be two messages, and than the consumer
    is there, before whom nothing comes early: a Kafka group has to be joined.
    """
    async with ensured(rig, Consumer(INBOX, (INBOX,))) as bus:
        due = time.time() + (3.0 if rig.features.wide else 6.0)
        for _ in range(2):
            await bus.publish(INBOX, owed(event("late"), due=due))
        one_message = time.time() < due
        await bus.publish(INBOX, owed(event("soon")))
        await bus.publish(INBOX, owed(event("past"), due=time.time() - 60))
        taken = Taken()
        if rig.features.counts:
            report = await bus.inspect()
            require(report.topics[0].messages == 3, f"due later counts too: {report.topics}")
            require(report.consumers[0].pending == 3, f"due later is pending: {report.consumers}")
        async with consuming(bus, taken, INBOX, INBOX):
            await taken.gets(["soon", "past"])
            left = due - time.time() - 0.1
            await never(lambda: "late" in taken.ids, "it was handed out before it was due", left)
            await taken.gets(["late"])
            require(time.time() >= due - 0.05, "it was handed out before it was due")
            if one_message:
                await never(lambda: taken.ids.count("late") > 1, "it was stored twice", 0.3)


async def keeps_what_was_published_over_a_restart(rig: BusRig) -> None:
    """Promise 1: publish has returned, so the message survives a crash of the bus."""
    async with ensured(rig, Consumer(GROUP, (TOPIC,)), Consumer(INBOX, (INBOX,))) as bus:
        wanted = ids(300)
        await bus.publish(TOPIC, *messages(*wanted))
        await bus.publish(INBOX, owed(event("owed")))
        await rig.break_()
        await rig.restart()
        got = await drained(bus, wanted=wanted)
        require(sorted(got) == sorted(wanted), f"{len(got)} of {len(wanted)} published came")
        got = await drained(bus, INBOX, INBOX, wanted=["owed"])
        require(got == ["owed"], f"a delivery in an inbox is lost: {got}")


async def fails_publishes_while_down(rig: BusRig) -> None:
    """Promise 2: every publish has a deadline; reconnecting never gives up."""
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages("before"))
        require(bus.connection == "", f"connection is {bus.connection!r} while connected")
        await rig.break_()
        began = time.monotonic()
        await raises(
            Disconnected, bus.publish(TOPIC, *messages("down")), "publish fails while down"
        )
        took = time.monotonic() - began
        require(took < DEADLINE, f"publish took {took:.1f} s to fail, more than {DEADLINE:g} s")
        require(len(bus.connection) > 10, "connection does not say why it is not connected")
        await raises(Disconnected, bus.store.get("a"), "the store fails while down")
        await rig.restart()
        await _publishes(bus, "after")
        require(bus.connection == "", "connection is '' again")
        got = await drained(bus, wanted=["before", "after"])
        require({"before", "after"} <= set(got), f"published messages are lost: {got}")


async def _publishes(bus: object, id: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await bus.publish(TOPIC, *messages(id))  # type: ignore[attr-defined]
            return
        except Disconnected:
            require(time.monotonic() < deadline, "it does not connect again")
            await asyncio.sleep(0.05)


async def fails_what_is_in_flight(rig: BusRig) -> None:
    """Promise 2: a lost connection fails what is in flight; what was confirmed is there."""
    async with ensured(rig) as bus:
        confirmed: list[str] = []
        ended: list[float] = []

        async def write(lane: int) -> None:
            for n in range(100_000):
                id = f"{lane}-{n}"
                try:
                    await bus.publish(TOPIC, *messages(id))
                except Disconnected:
                    ended.append(time.monotonic())
                    return
                confirmed.append(id)

        async with asyncio.TaskGroup() as tasks:
            for lane in range(20):
                tasks.create_task(write(lane))
            await within(lambda: len(confirmed) > 200, "publishing works")
            await rig.break_()
            broken = time.monotonic()
        require(max(ended) - broken < DEADLINE, "what was in flight hung after the connection")
        await rig.restart()
        if rig.features.durable:
            got = set(await drained(bus, wanted=confirmed))
            lost = [id for id in confirmed if id not in got]
            require(not lost, f"{len(lost)} of {len(confirmed)} confirmed messages are lost")


async def reads_strangers(rig: BusRig) -> None:
    """A stranger's CloudEvent is read; what is none is BadEvent, and can be settled."""
    good = event("good")
    async with ensured(rig) as bus:
        await rig.foreign(TOPIC, {}, b"\xff\xfe garbage")
        await rig.foreign(TOPIC, {"content-type": "application/json"}, good.to_json())
        wanted = 2
        if rig.features.hop_headers:
            wanted = 3
            headers = {f"ce-{name}": str(value) for name, value in event("ce").attributes.items()}
            await rig.foreign(TOPIC, {**headers, "content-type": "application/json"}, b"[1]")
        taken = Taken()
        async with consuming(bus, taken):
            await within(
                lambda: len({one.raw for one in taken.seen}) >= wanted, "everything is handed out"
            )
        came = {one.raw: one for one in taken.seen}
        sent = (b"\xff\xfe garbage", good.to_json(), b"[1]")[:wanted]
        require(set(came) == set(sent), f"raw is what the stranger sent, not {list(came)}")
        bad, structured = came[sent[0]], came[sent[1]]
        try:
            body = bad.body
        except BadEvent:
            pass
        else:
            raise NotConformant(f"garbage was read as {body}")
        require(structured.body == good, f"a structured CloudEvent is read, not {structured.body}")
        if rig.features.hop_headers:
            binary = came[sent[2]].body
            require(isinstance(binary, Event) and binary.id == "ce", "binary mode is read")
        require(await drained(bus) == [], "what is no event can be settled")


PUBLISH = (
    Check(round_trips_attributes_and_bytes, lambda rig: rig.features.keeps),
    Check(round_trips_deliveries, lambda rig: rig.features.keeps),
    Check(takes_a_delivery_of_its_largest_event),
    Check(refuses_what_is_too_large, lambda rig: rig.features.keeps),
    Check(deduplicates, lambda rig: rig.features.deduplicates and rig.features.keeps),
    Check(keeps_back_until_due, lambda rig: rig.features.delayed and rig.features.keeps),
    Check(
        keeps_what_was_published_over_a_restart,
        lambda rig: rig.features.durable and rig.breakable,
    ),
    Check(fails_publishes_while_down, lambda rig: rig.breakable),
    Check(fails_what_is_in_flight, lambda rig: rig.breakable),
    Check(reads_strangers, lambda rig: rig.features.keeps),
)
