"""The `kafka` source while its group changes in the stream: members are processes.

They join and leave in good order, by kill -9, and as zombies that sleep through their
session. Each test feeds all the time, and judges what the members wrote down:

- every record was settled,
- the first deliveries of a partition came in its order,
- only what a lost member had in hand came twice,
- the committed offsets never pass an unfinished record, and never go back.

The adapter is always cooperative (`partition.assignment.strategy` is its own), so an
eager assignment cannot be had.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.conformance.rigs import kafka_member
from tests.conformance.rigs.kafka import KafkaRig, close, open_rig
from tests.conformance.rigs.kafka_member import SESSION
from tests.e2e.processes import Program
from tests.servers import until

pytestmark = pytest.mark.timeout(360)

MEMBER = Path(kafka_member.__file__)
PARTITIONS = 4
EACH, PAUSE = 60, 0.04
"""Records of one write, and seconds between two."""
COORDINATOR_MOVES = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""Or loads: the question is asked again."""

Place = tuple[int, int]
"""Partition and offset."""


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Iterator[None]:
    yield
    asyncio.run(close())


class Group:
    """The members, what they wrote down, and what the group has committed."""

    def __init__(self, rig: KafkaRig, folder: Path, stack: AsyncExitStack) -> None:
        self.rig = rig
        self.produced = dict.fromkeys(range(PARTITIONS), 0)
        self.past_unfinished: list[str] = []
        self._folder = folder
        self._path = folder / "members"
        self._path.touch()
        self._read = 0
        self._lines: list[tuple[str, str, Place]] = []
        self._stack = stack
        self._committed: dict[int, int] = {}
        self._position = Consumer(
            {
                "bootstrap.servers": rig.server.brokers,
                "group.id": kafka_member.identity(rig.topic).group,
            }
        )

    async def join(self, name: str, session: float = SESSION) -> Program:
        """Start a member; returns once it has settled something."""
        arguments = (name, self.rig.server.brokers, self.rig.topic, self._path, str(session))
        member = Program(self._folder, sys.executable, MEMBER, *arguments)
        await self._stack.enter_async_context(member)
        await self.works(name)
        return member

    async def works(self, name: str, *, partitions: int = 1) -> None:
        """Wait until it has settled records of so many partitions from now on."""
        before = len(self.places("settled", name))

        def settles() -> bool:
            return len({p for p, _ in self.places("settled", name)[before:]}) >= partitions

        await until(settles, seconds=60, what=f"{name} settles records of {partitions} partitions")

    async def feed(self) -> None:
        """Write to every partition in turn, until cancelled."""
        number = 0
        while True:
            records = []
            for _ in range(EACH):
                partition = number % len(self.produced)
                records.append({"value": b'{"number": %d}' % number, "partition": partition})
                number += 1
            await self.rig.server.produce(self.rig.topic, records)
            for record in records:  # not before: cancelled in between, they may not be there
                self.produced[record["partition"]] += 1
            await asyncio.sleep(PAUSE)

    async def grow(self, partitions: int) -> None:
        """Give the topic so many partitions, and feed them too."""
        await self.rig.server.add_partitions(self.rig.topic, partitions)
        for one in range(len(self.produced), partitions):
            self.produced[one] = 0

    def lines(self) -> list[tuple[str, str, Place]]:
        """What, who and where, in the order in which it happened."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            new, newline, _ = file.read().rpartition(b"\n")
        self._read += len(new + newline)
        for line in new.splitlines():
            what, who, partition, offset = line.decode().split()
            self._lines.append((what, who, (int(partition), int(offset))))
        return self._lines

    def places(self, what: str, who: str = "") -> list[Place]:
        """Where that happened, in its order; by anybody or by one."""
        return [place for one, by, place in self.lines() if one == what and by in (who or by)]

    def close(self) -> None:
        """End the client that looks at the positions."""
        self._position.close()

    # -- judging ------------------------------------------------------------

    async def committed(self) -> dict[int, int]:
        """What the group would begin at: a partition without a position at 0."""
        asked = [TopicPartition(self.rig.topic, one) for one in list(self.produced)]
        while True:
            try:
                answer = await asyncio.to_thread(self._position.committed, asked, 30)
            except KafkaException as error:
                if error.args[0].code() not in COORDINATOR_MOVES:
                    raise
                await asyncio.sleep(0.1)
            else:
                return {one.partition: max(0, one.offset) for one in answer}

    async def look(self) -> None:
        """Compare what is committed with what is settled, until cancelled."""
        while True:
            now = await self.committed()
            settled = set(self.places("settled"))  # read later: it can only be more
            for partition, offset in now.items():
                unfinished = [o for o in range(offset) if (partition, o) not in settled]
                if unfinished:
                    self.past_unfinished.append(f"{partition}: {offset} is past {unfinished[:3]}")
                if offset < (before := self._committed.get(partition, 0)):
                    self.past_unfinished.append(f"{partition}: back from {before} to {offset}")
            self._committed = now
            await asyncio.sleep(0.1)

    async def all_settled(self) -> None:
        """Wait until every record that was written is settled."""
        written = {(p, o) for p, count in self.produced.items() for o in range(count)}

        def nothing_missing() -> bool:
            return written <= set(self.places("settled"))

        try:
            await until(nothing_missing, seconds=90, what=f"{len(written)} records are settled")
        except TimeoutError as error:
            missing = Counter(partition for partition, _ in written - set(self.places("settled")))
            error.add_note(f"missing: {missing}, committed: {self._committed}")
            raise

    def out_of_order(self) -> list[str]:
        """Records that came for the first time after a later one of their partition."""
        latest: dict[int, int] = defaultdict(lambda: -1)
        seen: set[Place] = set()
        found = []
        for place in self.places("offered"):
            if place not in seen and place[1] < latest[place[0]]:
                found.append(f"{place} after {latest[place[0]]}")
            seen.add(place)
            latest[place[0]] = max(latest[place[0]], place[1])
        return found

    def repeated(self) -> Counter[Place]:
        """How often each record came again."""
        again = Counter(self.places("offered"))
        return Counter({place: times - 1 for place, times in again.items() if times > 1})


@asynccontextmanager
async def group(folder: Path) -> AsyncIterator[Group]:
    """Fed and looked at while in the `with`; then it is waited for and judged."""
    async with open_rig() as rig, AsyncExitStack() as members:
        made = Group(rig, folder, members)
        members.callback(made.close)
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(made.feed())
            looking = tasks.create_task(made.look())
            yield made
            feeding.cancel()
            await asyncio.wait([feeding])
            await made.all_settled()
            looking.cancel()
        assert made.past_unfinished == []
        assert made.out_of_order() == []


async def test_in_good_order_little_comes_twice(tmp_path: Path) -> None:
    """Members join and leave, partitions are added; all while records come.

    A commit in the middle of a rebalance can be refused by the broker: what the one who
    gives its partitions away has in hand then comes again, and no more than that.
    """
    async with group(tmp_path) as made:
        one = await made.join("one")
        two = await made.join("two")
        await made.join("three")
        assert await one.terminate() == 0
        await made.grow(PARTITIONS + 2)
        await until(
            lambda: set(range(PARTITIONS + 2)) <= {p for p, _ in made.places("settled")},
            seconds=60,
            what="records of the added partitions are settled",
        )
        assert await two.terminate() == 0
        await made.works("three", partitions=PARTITIONS + 2)
    assert made.repeated().total() <= 3 * kafka_member.IN_FLIGHT, "two leave, and one grows"


async def test_a_killed_member_costs_what_it_had_in_hand(tmp_path: Path) -> None:
    async with group(tmp_path) as made:
        await made.join("one")
        allowed: Counter[Place] = Counter()
        for name in ("two", "three"):
            victim = await made.join(name)
            await made.works(name, partitions=2)
            await victim.kill()
            done = await made.committed()
            begun = set(made.places("offered", name))
            allowed.update((p, o) for p, o in begun if o >= done[p])
            await made.works("one", partitions=PARTITIONS)
    assert made.repeated() <= allowed
    assert made.repeated(), "it was killed with nothing in hand: nothing was tried"


async def test_a_zombie_commits_nothing_and_rejoins(tmp_path: Path) -> None:
    """It sleeps through its session with records in hand, and wakes to another owner."""
    async with group(tmp_path) as made:
        await made.join("one")
        zombie = await made.join("zombie")
        await made.works("zombie", partitions=2)
        done = await made.committed()
        await zombie.freeze()
        asleep = len(made.places("offered", "zombie"))
        await made.works("one", partitions=PARTITIONS)
        zombie.thaw()
        await made.works("zombie", partitions=2)
    before = made.places("offered", "zombie")[:asleep]
    unsure = {(p, o) for p, o in before if o >= done[p]}
    repeated = sum(made.repeated().values())
    assert 0 < repeated <= len(unsure) + kafka_member.IN_FLIGHT
