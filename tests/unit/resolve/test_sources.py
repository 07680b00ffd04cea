"""EventSources as workers: topics, defaults, secrets, the implicit Trigger, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.api.eventsource import SPECS
from ofevents.api.resolved import HttpTarget, TopicTarget
from ofevents.api.webhook import WebhookSpec
from ofevents.ports import Consumer

from .sets import SHOP, clean, of, only, resource, sources, triggers

SINK = 'sink: {uri: "http://127.0.0.1:9000/fn"}\n'
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: tokens}\nstringData: {shop: geheim}\n"


def test_each_entry_is_a_worker_with_a_topic_of_its_own(tmp_path: Path) -> None:
    spec = """
eventBus: default
suspend: true
logLevel: "3"
kafka: {orders: {brokers: "kafka:9092"}}
cron: {tick: {schedule: "@hourly", filter: "event.type != ''", onError: skip}}
webhook: {hook: {attributes: {subject: event.data.id}}}
"""
    workers = sources(clean(of(tmp_path, resource("EventSource", "shop", spec))))
    assert {each.topic for each in workers.values()} == {
        "event.default.shop.orders",
        "event.default.shop.tick",
        "event.default.shop.hook",
    }
    assert workers["orders"].spec["topic"] == "orders"
    assert workers["hook"].spec["path"] == "/shop/hook"
    assert workers["hook"].attributes == {"subject": "event.data.id"}
    assert workers["tick"].filter == "event.type != ''"
    assert workers["tick"].on_error == "skip"
    for worker in workers.values():
        assert worker.suspend
        assert worker.log_level == "debug"
        assert worker.dead_topic == "dead.default.source=2Fshop"
        assert worker.bus is not None and worker.bus.options["embedded"] is True
        SPECS[worker.source].model_validate(worker.spec)


def test_credentials_are_put_in_place(tmp_path: Path) -> None:
    spec = """
eventBus: default
webhook:
  hook: {auth: {hmac: {secret: {valueFrom: {secretKeyRef: {name: tokens, key: shop}}}}}}
"""
    worker = sources(clean(of(tmp_path, SECRET, resource("EventSource", "shop", spec))))["hook"]
    found = WebhookSpec.model_validate(worker.spec)
    assert found.auth is not None and found.auth.hmac is not None
    assert found.auth.hmac.secret == "geheim"


def test_a_source_of_another_package_is_given_its_own_fields(tmp_path: Path) -> None:
    spec = """
eventBus: default
custom:
  orders:
    source: queue
    filter: event.data.amount > 3
    spec: {host: a, deep: [{token: {valueFrom: {secretKeyRef: {name: tokens, key: shop}}}}]}
"""
    worker = sources(clean(of(tmp_path, SECRET, resource("EventSource", "shop", spec))))["orders"]
    assert (worker.source, worker.entry) == ("queue", "orders")
    assert worker.spec == {"host": "a", "deep": [{"token": "geheim"}]}
    assert worker.topic == "event.default.shop.orders"


@pytest.mark.parametrize(
    ("name", "key", "sentence"),
    [
        ("tokns", "shop", "Secret default/tokns is not in the set; did you mean tokens?"),
        ("tokens", "shp", "Secret default/tokens has no key shp; did you mean shop?"),
    ],
)
def test_a_missing_secret_blocks_the_entry_that_names_it(
    tmp_path: Path, name: str, key: str, sentence: str
) -> None:
    spec = f"""
eventBus: default
webhook:
  open: {{}}
  hook:
    port: 8081
    auth: {{bearer: {{valueFrom: {{secretKeyRef: {{name: {name}, key: {key}}}}}}}}}
"""
    resolution = of(tmp_path, SECRET, resource("EventSource", "shop", spec))
    problem = only(resolution)
    assert problem.severity == "warning" and problem.blocks
    assert problem.sentence == sentence
    assert problem.path == "spec.webhook.hook.auth.bearer.valueFrom.secretKeyRef"
    assert list(sources(resolution)) == ["open"]
    [blocked] = resolution.blocked
    assert (blocked.kind, blocked.name, blocked.entry) == ("EventSource", "shop", "webhook/hook")
    assert blocked.reason == sentence


def test_a_sink_without_a_bus_is_called_directly(tmp_path: Path) -> None:
    spec = f"""
{SINK}
deadLetterSink: {{uri: "http://127.0.0.1:9001"}}
delivery: {{timeout: 5s, retries: 2}}
cron: {{tick: {{schedule: "@hourly"}}}}
"""
    resolution = clean(of(tmp_path, resource("EventSource", "shop", spec)))
    worker = sources(resolution)["tick"]
    assert worker.target == HttpTarget(uri="http://127.0.0.1:9000/fn")
    assert worker.dead_letter == HttpTarget(uri="http://127.0.0.1:9001")
    assert (worker.delivery.timeout, worker.delivery.retries) == (5.0, 2)
    assert (worker.bus, worker.topic, worker.dead_topic) == (None, "", "")
    assert resolution.buses == () and triggers(resolution) == []


def test_a_sink_and_a_bus_are_an_implicit_trigger(tmp_path: Path) -> None:
    spec = f"""
eventBus: default
{SINK}
deadLetterTopic: failed
delivery: {{ordered: true}}
cron: {{tick: {{schedule: "@hourly"}}, tock: {{schedule: "@daily"}}}}
"""
    resolution = clean(of(tmp_path, resource("EventSource", "shop", spec)))
    assert all(each.target is None for each in sources(resolution).values())
    [worker] = triggers(resolution)
    assert worker.implicit and worker.name == "shop"
    assert worker.group == "trigger.default.source=2Fshop"
    assert worker.dead_topic == "dead.default.source=2Fshop"
    assert [each.topic for each in worker.inputs] == [
        "event.default.shop.tick",
        "event.default.shop.tock",
    ]
    [subscriber] = worker.subscribers
    assert subscriber.target == HttpTarget(uri="http://127.0.0.1:9000/fn")
    assert subscriber.dead_letter == TopicTarget(topic="topic.default.failed")
    assert subscriber.inbox == "inbox.default.source=2Fshop.sink"
    assert subscriber.delivery.ordered
    [plan] = resolution.buses
    assert plan.needs.consumers == (
        Consumer(worker.group, ("event.default.shop.tick", "event.default.shop.tock"), "now"),
        Consumer(subscriber.inbox, (subscriber.inbox,), "earliest"),
    )
    assert set(plan.needs.topics) == {
        "event.default.shop.tick",
        "event.default.shop.tock",
        worker.dead_topic,
        subscriber.inbox,
        "topic.default.failed",
    }


@pytest.mark.parametrize(
    ("spec", "line", "path", "sentence"),
    [
        ("webhook: {o: {}}", 4, "spec", "nowhere to send its events; expected eventBus or sink"),
        (
            f"webhook: {{o: {{}}}}\n{SINK}deadLetterTopic: failed",
            7,
            "spec.deadLetterTopic",
            "a topic needs an EventBus",
        ),
        (
            f"webhook: {{o: {{}}}}\n{SINK}delivery: {{ordered: true}}",
            7,
            "spec.delivery.ordered",
            "ordered needs an EventBus",
        ),
        (
            f"webhook: {{o: {{}}}}\n{SINK}delivery:\n  deliverAfter: 5s",
            8,
            "spec.delivery.deliverAfter",
            "deliverAfter needs an EventBus",
        ),
        (
            f"webhook: {{o: {{}}}}\n{SINK}delivery:\n  batch: {{size: 5}}",
            8,
            "spec.delivery.batch",
            "batch needs an EventBus",
        ),
        (
            f"{SINK}cron: {{c: {{schedule: '@daily', missedRuns: all}}}}",
            6,
            "spec.cron.c.missedRuns",
            "all needs an EventBus to remember the last run",
        ),
        (
            "eventBus: default\nwebhook: {o: {dataSchema: {type: objectt}}}",
            6,
            "spec.webhook.o.dataSchema.type",
            "not a JSON Schema: 'objectt' is not valid",
        ),
        (
            "eventBus: default\nwebhook: {o: {filter: event.tpe == 'x'}}",
            6,
            "spec.webhook.o.filter",
            "did you mean type?",
        ),
        (
            "eventBus: default\nwebhook: {o: {attributes: {type: 'evnt.type'}}}",
            6,
            "spec.webhook.o.attributes.type",
            "did you mean event?",
        ),
        (
            f"webhook: {{o: {{}}}}\n{SINK}  ".rstrip() + "\ndeadLetterSink: {uri: 'http://a', tls: "
            "{insecureSkipVerify: true}}",
            7,
            "spec.deadLetterSink.tls.insecureSkipVerify",
            "give tls.ca",
        ),
    ],
)
def test_what_cannot_work_is_an_error(
    tmp_path: Path, spec: str, line: int, path: str, sentence: str
) -> None:
    resolution = of(tmp_path, resource("EventSource", "shop", spec))
    found = [each for each in resolution.errors if sentence in each.sentence]
    assert [(each.line, each.path) for each in found] == [(line, path)], resolution.problems
    assert resolution.workers == () and resolution.blocked == ()


@pytest.mark.parametrize(
    ("spec", "path", "sentence"),
    [
        ("eventBus: default", "spec", "has no source"),
        (
            "eventBus: default\nwebhook: {o: {}}\ndeadLetterTopic: x",
            "spec.deadLetterTopic",
            "there is none",
        ),
        (
            "eventBus: default\nwebhook: {o: {}}\nsink: {uri: 'http://a', ref: {apiVersion: v1, "
            "kind: Service, name: a}}",
            "spec.sink.ref",
            "uri wins over ref",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(
    tmp_path: Path, spec: str, path: str, sentence: str
) -> None:
    problem = only(of(tmp_path, resource("EventSource", "shop", spec)))
    assert (problem.severity, problem.path) == ("warning", path)
    assert sentence in problem.message


def test_a_resource_with_an_error_keeps_no_other_from_running(tmp_path: Path) -> None:
    bad = resource("EventSource", "bad", "webhook: {o: {}}")
    resolution = of(tmp_path, bad, SHOP)
    assert len(resolution.errors) == 1
    assert set(sources(resolution)) == {"orders", "payments"}


def test_two_webhooks_at_one_address_are_told(tmp_path: Path) -> None:
    spec = "eventBus: default\nwebhook:\n  a: {path: /x}\n  b: {path: /x}\n  c: {path: /y}"
    problem = only(of(tmp_path, resource("EventSource", "shop", spec)))
    assert (problem.severity, problem.line, problem.path) == ("warning", 8, "spec.webhook.b")
    assert "http://127.0.0.1:8080/x" in problem.message


def test_a_secret_that_is_not_text_is_told_where_it_is_used(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: tokens}\ndata: {shop: /w==}\n"
    auth = "{bearer: {valueFrom: {secretKeyRef: {name: tokens, key: shop}}}}"
    spec = f"eventBus: default\nwebhook: {{o: {{auth: {auth}}}}}"
    assert clean(of(tmp_path, secret)).workers == ()
    problem = only(of(tmp_path, secret, resource("EventSource", "shop", spec)))
    assert problem.blocks and "is not text" in problem.message
