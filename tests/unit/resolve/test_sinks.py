"""Sinks that are brokers: what a worker is given, and what is wrong with the fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.api.resolved import ResolvedTrigger, SinkTarget
from tests.unit.resolve.sets import SHOP, clean, of, only, resource, sources, trigger, triggers

SECRET = """apiVersion: v1
kind: Secret
metadata: {name: kafka}
stringData: {user: me, password: hidden}
"""

KAFKA = """- name: out
  sink:
    kafka:
      brokers: [one:9092, two:9092]
      topic: paid
      key: string(event.data.customer)
      saslUsername: {valueFrom: {secretKeyRef: {name: kafka, key: user}}}
      saslPassword: {valueFrom: {secretKeyRef: {name: kafka, key: password}}}
      tls: {}
  deadLetterSink: {kafka: {brokers: "one:9092", topic: dead}}
  delivery: {format: structured}"""


def test_a_subscriber_is_given_the_broker_with_its_credentials(tmp_path: Path) -> None:
    (made,) = triggers(clean(of(tmp_path, SHOP, SECRET, trigger(KAFKA))))
    (subscriber,) = made.subscribers
    assert subscriber.target == SinkTarget(
        sink="kafka",
        spec={
            "brokers": "one:9092,two:9092",
            "topic": "paid",
            "saslUsername": "me",
            "saslPassword": "hidden",
            "saslMechanism": "PLAIN",
            "tls": {"insecureSkipVerify": False},
            "config": {},
        },
        key="string(event.data.customer)",
    )
    assert isinstance(subscriber.dead_letter, SinkTarget)
    assert subscriber.dead_letter.spec["topic"] == "dead"
    assert ResolvedTrigger.model_validate_json(made.model_dump_json()) == made


def test_an_event_source_without_a_bus_is_given_the_broker(tmp_path: Path) -> None:
    text = resource(
        "EventSource",
        "shop",
        """
sink: {kafka: {brokers: "k:9092", topic: out}}
kafka:
  orders: {brokers: "k:9092", topic: orders}
""",
    )
    source = sources(clean(of(tmp_path, text)))["orders"]
    assert isinstance(source.target, SinkTarget)
    assert (source.target.sink, source.target.key) == ("kafka", None)


def sink(text: str) -> str:
    return trigger(f"- name: a\n  sink: {text}")


@pytest.mark.parametrize(
    ("given", "path", "sentence"),
    [
        (
            '{kafka: {brokers: "k:9092", topic: out, key: "event.dta.id"}}',
            "spec.subscribers[0].sink.kafka.key",
            "no such attribute dta, did you mean data?",
        ),
        (
            '{kafka: {brokers: "k:9092", topic: out, key: "1 + 1"}}',
            "spec.subscribers[0].sink.kafka.key",
            "string",
        ),
        (
            '{kafka: {brokers: "k:9092", topic: out, key: "orders"}}',
            "spec.subscribers[0].sink.kafka.key",
            "orders",
        ),
        (
            '{kafka: {brokers: "k:9092", topic: out}, headers: {x: y}}',
            "spec.subscribers[0].sink.headers",
            "headers is about an HTTP call; kafka has its own fields for it",
        ),
        (
            '{kafka: {brokers: "k:9092", topic: out}, tls: {}}',
            "spec.subscribers[0].sink.tls",
            "tls is about an HTTP call",
        ),
    ],
)
def test_a_mistake_is_found_at_its_place(
    tmp_path: Path, given: str, path: str, sentence: str
) -> None:
    problem = only(of(tmp_path, SHOP, sink(given)))
    assert (problem.severity, problem.path) == ("error", path)
    assert sentence in problem.message
    assert problem.line == 20
    if path.endswith("key"):
        assert problem.caret


def test_what_may_lose_an_event_is_said(tmp_path: Path) -> None:
    text = sink('{nats: {url: "nats://n:4222", subject: out, jetstream: false}}')
    problem = only(of(tmp_path, SHOP, text))
    assert (problem.severity, problem.blocks) == ("warning", False)
    assert "core NATS keeps nothing" in problem.message


def test_a_broker_gives_no_answer(tmp_path: Path) -> None:
    text = trigger('- {name: a, reply: r, sink: {kafka: {brokers: "k:9092", topic: out}}}')
    problem = only(of(tmp_path, SHOP, text))
    assert problem.path == "spec.subscribers[0].reply"
    assert "kafka gives no answer" in problem.message


def test_a_name_is_made_of_the_place_and_of_no_credential(tmp_path: Path) -> None:
    def name(password: str, topic: str = "Paid.Cards") -> str:
        fields = f"brokers: 'k:9092', topic: {topic}, saslUsername: u, saslPassword: {password}"
        (made,) = triggers(clean(of(tmp_path, SHOP, trigger(f"- sink: {{kafka: {{{fields}}}}}"))))
        return made.subscribers[0].name

    assert name("one") == name("two")
    assert name("one").startswith("kafka-paid-cards-")
    assert name("one") != name("one", "other")
