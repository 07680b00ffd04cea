"""Pulling messages from JetStream: `Bus.consume` from subscription to handler.

The driver starts one `Feed` per stream that a group's topics lie in. A feed
asks the server for batches (pull requests) so that what was asked for plus
what is open never exceeds its share of `in_flight`, and hands over what
arrives as lists, one list per turn of the event loop. It uses nats-py's
callback, which costs no task and no timer per message; nats-py's own `fetch`
wraps each message in both.

A request that is open when its subscription ends can still be given a message, which
then waits for the ack wait. So where messages flow requests are short, and stopping
waits for the last one's end; where none do, one request for one message waits long.

Anything doubtful (a lost connection, missed heartbeats, a restarted server)
ends the session: a new subscription on a new inbox, so that requests of the
old one die at the server and the count of what was asked for begins at zero.
What was on its way then comes again after the ack wait.

A consumer that was deleted under us raises Disconnected: the engine runs the
worker again, and its `ensure` makes the consumer anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ofevents.bus.acks import Acks
from ofevents.bus.intake import Intake, give_back
from ofevents.bus.layout import NANO, durable
from ofevents.bus.link import Link
from ofevents.bus.received import JetStreamReceived
from ofevents.bus.streams import Streams
from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.ports import Handler
from ofevents.telemetry import Log

EXPIRES: Final = 30.0
"""Seconds that a pull request waits at the server where nothing comes, ..."""
SHORT: Final = 0.5
"""... and where messages come: so long may stopping take."""
IDLE_AFTER: Final = 2.0
"""Seconds without a message after which nothing more is expected soon."""
HEARTBEAT: Final = 5.0
"""Seconds between the server's signs of life while it has nothing for us."""
_PAUSE: Final = 0.25


async def consume(
    link: Link,
    streams: Streams,
    acks: Acks,
    clock: Clock,
    topics: Sequence[str],
    group: str,
    handler: Handler,
    *,
    in_flight: int,
    started: Callable[[], None],
    stop: asyncio.Event | None,
) -> None:
    """See `Bus.consume`."""
    by_stream = streams.layout.by_stream(topics)
    share = max(1, in_flight // len(by_stream))
    async with Intake(handler, in_flight, group, stop) as intake:
        feeds = [
            Feed(link, streams, acks, clock, intake, stream, group, share) for stream in by_stream
        ]
        async with asyncio.TaskGroup() as tasks:
            waiting = [asyncio.Event() for _ in feeds]
            runs = [
                tasks.create_task(feed.run(live.set))
                for feed, live in zip(feeds, waiting, strict=True)
            ]
            extender = tasks.create_task(_extend(intake, clock, link.options.ack_wait / 3))
            for live in waiting:
                await live.wait()
            started()
            await asyncio.gather(*runs)
            while intake.open:
                intake.changed.clear()
                await intake.changed.wait()
            extender.cancel()


async def _extend(intake: Intake, clock: Clock, period: float) -> None:
    """Tell the server, each third of the ack wait, that what is open is worked on."""
    while True:
        await clock.sleep(period)
        for batch in intake.hands.values():
            for one in batch:
                if isinstance(one, JetStreamReceived):
                    one.progress()


class Feed:
    """One group's messages from one stream. Its counts are of its own share."""

    def __init__(
        self,
        link: Link,
        streams: Streams,
        acks: Acks,
        clock: Clock,
        intake: Intake,
        stream: str,
        group: str,
        share: int,
    ) -> None:
        self._link = link
        self._streams = streams
        self._acknowledge = acks.add
        self._clock = clock
        self._intake = intake
        self._stream = stream
        self._group = group
        self._share = share
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable(group)}"
        self._log = Log(group=group)
        self._open = 0
        self._asked = 0
        self._heard = 0.0
        self._came = 0.0
        self._ends = 0.0
        self._doubt = ""
        self._changed = asyncio.Event()
        self._arrived: list[JetStreamReceived] = []
        self._prefix = len(streams.layout.subject(""))

    async def run(self, live: Callable[[], None]) -> None:
        """Session after session until stopping.

        Raises:
            Disconnected: the consumer does not exist (any more).
        """
        self._intake.on_stop.append(self._changed.set)
        while not self._intake.stopping:
            client = await self._link.ready()
            try:
                await self._check()
                await self._session(client, live)
            except _Doubt as doubt:
                self._log.debug("reconnecting", reason=str(doubt))
                await self._clock.sleep(_PAUSE)
        live()

    async def _check(self) -> None:
        try:
            found = await self._streams.consumer(self._stream, self._group)
        except Disconnected as error:
            raise _Doubt(str(error)) from error
        if found is None:
            raise Disconnected(
                f"consumer group {self._group!r} does not exist on the bus (any more): "
                "it has to be ensured again"
            )

    async def _session(self, client: Client, live: Callable[[], None]) -> None:
        """One subscription's life: keep the pipe full until stopping or in doubt."""
        self._asked, self._doubt, inbox = 0, "", client.new_inbox()
        self._heard = self._came = self._clock.monotonic()
        try:
            subscription = await client.subscribe(
                inbox, cb=self._take, pending_bytes_limit=0, pending_msgs_limit=0
            )
        except nats.errors.Error as error:
            raise _Doubt(str(error)) from error
        live()
        try:
            while not self._intake.stopping:
                await self._pull(client, inbox)
                await self._wait()
                self._hand()
                if self._doubt:
                    raise _Doubt(self._doubt)
                if self._link.client is not client:
                    raise _Doubt("the connection was replaced")
        finally:
            await self._leave(subscription)

    async def _leave(self, subscription: Subscription) -> None:
        """End the subscription; what was on its way is given back.

        `drain` waits for the server's pong, so nothing that it had sent already is
        left to wait for the ack wait's end; see the module for what it might send.
        """
        if self._intake.stopping and not self._doubt:
            await self._requests_end()
        try:
            async with asyncio.timeout(2.0):
                await subscription.drain()  # type: ignore[no-untyped-call]
        except (TimeoutError, nats.errors.Error):
            pass  # the connection is gone, and the subscription with it
        arrived, self._arrived = self._arrived, []
        give_back(list(arrived))

    async def _requests_end(self) -> None:
        """Return when the server has ended our short requests, or their time is over."""
        while self._asked and (left := self._ends - self._clock.monotonic()) > 0:
            self._changed.clear()
            timer = asyncio.get_running_loop().call_later(left, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()

    async def _pull(self, client: Client, inbox: str) -> None:
        """Ask for more once a quarter of the share is free, or nothing is on order."""
        free = self._share - self._open - self._asked
        if free <= 0 or (self._asked and free < self._share // 4):
            return
        now = self._clock.monotonic()
        if now - self._came < IDLE_AFTER:
            request = {"batch": free, "expires": int(SHORT * NANO)}
            self._ends = now + 2 * SHORT
        elif self._asked:
            return  # one is on order, and tells when messages come again
        else:
            free, heartbeat = 1, int(HEARTBEAT * NANO)
            request = {"batch": 1, "expires": int(EXPIRES * NANO), "idle_heartbeat": heartbeat}
            self._ends = now
        try:
            await client.publish(self._next, orjson.dumps(request), reply=inbox)
        except nats.errors.Error as error:
            raise _Doubt(str(error)) from error
        self._asked += free

    async def _wait(self) -> None:
        """Until a message, a status or a settling; in doubt without a sign of life."""
        silent = self._clock.monotonic() - self._heard
        if self._asked and silent > 2 * HEARTBEAT:
            raise _Doubt("the server's heartbeats stopped")
        timer = asyncio.get_running_loop().call_later(HEARTBEAT, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        self._changed.clear()

    def _hand(self) -> None:
        if not self._arrived:
            return
        self._heard = self._came = self._clock.monotonic()
        arrived, self._arrived = self._arrived, []
        self._intake.hand(list(arrived))

    # -- called by nats-py --------------------------------------------------

    async def _take(self, msg: Msg) -> None:
        """A message, or a status that the server sends in its place."""
        if not msg.reply or (msg.headers is not None and "Status" in msg.headers):
            self._status(msg)
        else:
            self._asked -= 1
            self._open += 1
            self._intake.took(1)
            self._arrived.append(
                JetStreamReceived(
                    msg.subject[self._prefix :],
                    msg.data,
                    msg.headers,
                    msg.reply,
                    self._acknowledge,
                    self._settled,
                )
            )
        if not self._changed.is_set():
            self._changed.set()

    def _settled(self) -> None:
        self._open -= 1
        self._intake.done()
        if not self._changed.is_set():
            self._changed.set()

    def _status(self, msg: Msg) -> None:
        headers = msg.headers or {}
        status, text = headers.get("Status", ""), headers.get("Description", "")
        self._heard = self._clock.monotonic()
        if status == "100":
            return
        # 408 and most of 409 end one request and say what it has not delivered.
        left = headers.get("Nats-Pending-Messages")
        if status in ("408", "409") and left is not None:
            self._asked = max(0, self._asked - int(left))
            return
        self._doubt = f"{status} {text}".strip()


class _Doubt(Exception):
    """A session cannot go on; the next one may."""
