"""The reader's callbacks: what is read and committed when partitions move away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from ofevents.errors import ConfigError, Disconnected
from ofevents_adapters.kafka_reader import Offsets, Owner, Reader


class Asked(Owner):
    """The loop's side: answers what is settled, remembers what it was asked."""

    def __init__(self, settled: Offsets) -> None:
        self.calls: list[tuple[str, object]] = []

        def release(gone: list[int]) -> Offsets:
            self.calls.append(("release", gone))
            return settled

        super().__init__(
            release=release,
            lose=lambda gone: self.calls.append(("lose", gone)),
            uncommitted=lambda offsets: self.calls.append(("uncommitted", offsets)),
            lagging=lambda records: self.calls.append(("lagging", records)),
        )


class Client:
    """The calls that a callback makes on the consumer."""

    def __init__(self) -> None:
        self.commits: list[tuple[dict[int, int], bool]] = []
        self.fails = False

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._WAIT_COORD))
        self.commits.append(({one.partition: one.offset for one in offsets}, asynchronous))


def reader(settled: Offsets) -> tuple[Reader, Asked]:
    owner = Asked(settled)
    made = Reader({"bootstrap.servers": "b:1"}, "orders", False, owner)
    made._gathered = [Message(topic="orders", partition=p, offset=7) for p in (0, 1, 0, 2)]
    return made, owner


def test_records_of_a_partition_that_leaves_in_the_same_turn_are_forgotten() -> None:
    made, owner = reader({0: 5})
    client: Any = Client()
    made._revoke(client, [TopicPartition("orders", 0), TopicPartition("orders", 2)])
    assert owner.calls == [("release", [0, 2])]
    assert [one.partition() for one in made._gathered] == [1]
    assert client.commits == [({0: 5}, False)]


@pytest.mark.parametrize("how", ["_revoke", "_lose"])
def test_a_record_that_was_read_before_its_partition_left_is_no_longer_ours(how: str) -> None:
    """Handed on, its lane would commit past what the next owner has in hand."""
    made, owner = reader({})

    class Leaving(Client):
        def poll(self, seconds: float) -> Message:
            return Message(topic="orders", partition=0, offset=7)

        def consume(self, limit: int, seconds: float) -> list[Message]:
            getattr(made, how)(self, [TopicPartition("orders", 0)])
            return [Message(topic="orders", partition=1, offset=3)]

    client: Any = Leaving()
    made._consumer = client
    assert [one.partition() for one in made.turn(10, 0.0, {})] == [1]
    assert [gone for _, gone in owner.calls] == [[0]]


def test_a_failed_commit_is_no_failure_of_the_worker() -> None:
    made, _ = reader({0: 5})
    client: Any = Client()
    client.fails = True
    made._revoke(client, [TopicPartition("orders", 0)])
    assert made._failure is None


def test_a_last_commit_that_meets_a_rebalance_is_tried_again() -> None:
    made, _ = reader({0: 5})

    class Busy(Client):
        tries = 0

        def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
            self.tries += 1
            if self.tries < 3:
                raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
            super().commit(offsets=offsets, asynchronous=asynchronous)

    client: Any = Busy()
    made._revoke(client, [TopicPartition("orders", 0)])
    assert client.commits == [({0: 5}, False)]


def test_nothing_is_committed_for_lost_partitions() -> None:
    made, owner = reader({0: 5})
    client: Any = Client()
    made._lose(client, [TopicPartition("orders", 0)])
    assert owner.calls == [("lose", [0])]
    assert client.commits == []
    assert [one.partition() for one in made._gathered] == [1, 2]


def test_a_commit_that_the_brokers_refuse_is_reported() -> None:
    made, owner = reader({})
    made._on_commit(KafkaError(KafkaError.REBALANCE_IN_PROGRESS), [TopicPartition("orders", 1, 9)])
    made._on_commit(None, [TopicPartition("orders", 1, 10)])
    assert owner.calls == [("uncommitted", {1: 9})]


def test_the_lag_is_that_of_our_partitions() -> None:
    made, owner = reader({})
    partitions = {
        "0": {"consumer_lag": 5},
        "1": {"consumer_lag": -1, "fetch_state": "none"},
        "2": {"consumer_lag": -1, "fetch_state": "active", "hi_offset": 10, "lo_offset": 3},
        "3": {"consumer_lag": -1, "fetch_state": "active", "hi_offset": -1001, "lo_offset": -1001},
    }
    made._on_statistics(json.dumps({"topics": {"orders": {"partitions": partitions}}}))
    made._on_statistics('{"topics": {}}')
    assert owner.calls == [("lagging", 12), ("lagging", 0)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Disconnected),
        (KafkaError._FATAL, Disconnected),
    ],
)
def test_what_the_brokers_say_becomes_our_error(code: int, kind: type[Exception]) -> None:
    made, _ = reader({})
    failed = Message(topic="orders", partition=0, offset=1, error=KafkaError(code))
    made._gathered = [failed]
    with pytest.raises(kind, match=r"orders|b:1"):
        made._records()


def test_an_error_that_the_client_heals_is_left_to_it() -> None:
    made, _ = reader({})
    made._gathered[1].set_error(KafkaError(KafkaError._MAX_POLL_EXCEEDED))
    assert [one.partition() for one in made._records()] == [0, 0, 2]
