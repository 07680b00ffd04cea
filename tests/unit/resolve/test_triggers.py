"""Triggers as workers: inputs, subscribers, names, targets, references, CEL mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents import registry
from ofevents.api.resolved import (
    HttpAuth,
    HttpTarget,
    ResolvedDelivery,
    ResolvedInput,
    ResolvedTrigger,
    TopicTarget,
)
from ofevents.ports import Consumer

from .sets import SHOP, clean, of, only, resource, trigger, triggers

FUNCTION = "apiVersion: core.openfunction.io/v1beta2\nkind: Function\nmetadata: {name: charge%s}\n"


def one(folder: Path, *documents: str, urls: dict[str, str] | None = None) -> ResolvedTrigger:
    [worker] = triggers(clean(of(folder, SHOP, *documents, urls=urls)))
    return worker


def test_a_trigger_as_its_worker_is_given_it(tmp_path: Path) -> None:
    text = resource(
        "Trigger",
        "t",
        """
eventBus: default
startFrom: earliest
deletionPolicy: Retain
window: 5m
logLevel: "2"
inputs:
  orders: {eventSource: shop, event: orders, filter: event.data.amount > 100, joinBy: event.data.id}
  my-input: {topic: metrics}
subscribers:
- name: charge
  condition: orders || inputs["my-input"]
  payload: '{"id": events.orders.data.id}'
  sink:
    uri: http://127.0.0.1:9000/charge
    headers: {x-shop: a}
    auth: {basic: {username: u, password: p}}
    tls: {ca: CA, cert: CERT, key: KEY}
    proxy: http://proxy:3128
  deadLetterTopic: failed
  reply: replies
  onError: skip
  delivery:
    timeout: 5s
    retries: 3
    backoff: 100ms
    maxBackoff: 2m
    concurrency: 4
    rateLimit: 60/m
    ordered: true
    format: structured
    batch: {size: 10, wait: 2s}
    deliverAfter: 1s
""",
    )
    worker = one(tmp_path, text)
    assert (worker.start, worker.deletion_policy, worker.window) == ("earliest", "Retain", 300.0)
    assert worker.log_level == "debug" and not worker.implicit
    assert worker.group == "trigger.default.t" and worker.dead_topic == "dead.default.t"
    assert worker.inputs == (
        ResolvedInput(
            name="orders",
            topic="event.default.shop.orders",
            filter="event.data.amount > 100",
            join_by="event.data.id",
        ),
        ResolvedInput(name="my-input", topic="topic.default.metrics"),
    )
    [subscriber] = worker.subscribers
    assert subscriber.target == HttpTarget(
        uri="http://127.0.0.1:9000/charge",
        headers={"x-shop": "a"},
        auth=HttpAuth(basic=("u", "p")),
        ca="CA",
        cert="CERT",
        key="KEY",
        proxy="http://proxy:3128",
    )
    assert subscriber.dead_letter == TopicTarget(topic="topic.default.failed")
    assert subscriber.reply_topic == "topic.default.replies"
    assert subscriber.inbox == "inbox.default.t.charge"
    assert subscriber.on_error == "skip"
    assert subscriber.delivery == ResolvedDelivery(
        timeout=5.0, retries=3, backoff=0.1, max_backoff=120.0, concurrency=4, rate=1.0,
        ordered=True, format="structured", batch_size=10, batch_wait=2.0, deliver_after=1.0,
    )  # fmt: skip


def test_what_a_trigger_needs_on_its_bus(tmp_path: Path) -> None:
    text = trigger("- {name: a, topic: out, deadLetterTopic: failed, reply: answers}")
    resolution = clean(of(tmp_path, SHOP, text))
    [plan] = resolution.buses
    read = ("event.default.shop.orders", "event.default.shop.payments")
    assert plan.needs.consumers == (
        Consumer("trigger.default.t", read, "now"),
        Consumer("inbox.default.t.a", ("inbox.default.t.a",), "earliest"),
    )
    assert set(plan.needs.topics) == {
        *read,
        "dead.default.shop".replace("shop", "source=2Fshop"),
        "dead.default.t",
        "inbox.default.t.a",
        "topic.default.out",
        "topic.default.failed",
        "topic.default.answers",
    }


def test_names_are_derived_stable_and_numbered(tmp_path: Path) -> None:
    subscribers = """
- {condition: orders, sink: {uri: "http://127.0.0.1:9000/fn"}}
- {condition: orders, sink: {uri: "http://127.0.0.1:9000/fn"}}
- {condition: payments, sink: {uri: "http://127.0.0.1:9000/fn"}}
- {topic: out}
"""
    resolution = of(tmp_path, SHOP, trigger(subscribers.strip()))
    problem = only(resolution)
    assert problem.severity == "warning" and problem.path == "spec.subscribers"
    assert problem.message.startswith("4 subscribers have no name")
    first, second, third, fourth = (each.name for each in triggers(resolution)[0].subscribers)
    assert first.startswith("127-0-0-1-9000-fn-")
    assert second == f"{first}-2"
    assert third not in (first, second)
    assert fourth.startswith("out-")
    moved = subscribers.strip().splitlines()
    again = of(tmp_path, SHOP, trigger("\n".join([moved[3], moved[0]])))
    assert [each.name for each in triggers(again)[0].subscribers] == [fourth, first]


def test_a_sink_and_a_topic_are_two_subscribers(tmp_path: Path) -> None:
    worker = one(tmp_path, trigger("- {name: a, topic: out, sink: {uri: 'http://x'}}"))
    assert [(each.name, each.target) for each in worker.subscribers] == [
        ("a", HttpTarget(uri="http://x")),
        ("a-topic", TopicTarget(topic="topic.default.out")),
    ]


@pytest.mark.parametrize(
    ("document", "ref", "uri"),
    [
        (
            FUNCTION % ", annotations: {events.openfunction.io/url: 'http://127.0.0.1:1'}",
            "{apiVersion: core.openfunction.io/v1beta1, kind: Function, name: charge}",
            "http://127.0.0.1:1",
        ),
        (
            FUNCTION % "" + "status: {addresses: [{type: External, value: 'http://e'}, "
            "{type: Internal, value: 'http://i'}]}\n",
            "{apiVersion: core.openfunction.io/v1beta2, kind: Function, name: charge}",
            "http://i",
        ),
        (
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: charge}\n"
            "status: {url: 'http://k'}\n",
            "{apiVersion: serving.knative.dev/v1, kind: Service, name: charge}",
            "http://k",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: charge, namespace: bank}\n",
            "{apiVersion: v1, kind: Service, name: charge, namespace: bank}",
            "http://charge.bank.svc.cluster.local",
        ),
    ],
)
def test_a_ref_is_where_the_document_says(
    tmp_path: Path, document: str, ref: str, uri: str
) -> None:
    worker = one(tmp_path, document, trigger(f"- {{name: a, sink: {{ref: {ref}}}}}"))
    assert worker.subscribers[0].target == HttpTarget(uri=uri)


def test_a_ref_can_be_overridden(tmp_path: Path) -> None:
    text = trigger("- {name: a, sink: {ref: {apiVersion: v1, kind: Service, name: fn}}}")
    for key in ("fn", "default/fn"):
        worker = one(tmp_path, text, urls={key: "http://127.0.0.1:7"})
        assert worker.subscribers[0].target == HttpTarget(uri="http://127.0.0.1:7")


def test_a_dangling_ref_is_a_warning_that_blocks_the_trigger(tmp_path: Path) -> None:
    ref = "{apiVersion: core.openfunction.io/v1beta2, kind: Function, name: chrge}"
    text = trigger(f"- {{name: a, sink: {{ref: {ref}}}}}\n- {{name: b, topic: out}}")
    resolution = of(tmp_path, SHOP, FUNCTION % "", text)
    problem = only(resolution)
    assert (problem.severity, problem.blocks) == ("warning", True)
    assert problem.sentence == "Function default/chrge is not in the set; did you mean charge?"
    assert triggers(resolution) == []
    assert resolution.blocked[0].name == "t"


def test_a_sink_that_is_not_installed_is_a_warning_that_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "names", lambda group: ("kafka",))
    text = trigger("- {name: a, sink: {dapr: {appId: billing, method: paid}}}")
    problem = only(of(tmp_path, SHOP, text))
    assert problem.blocks and "cannot deliver to dapr yet" in problem.message


DANGLING = """
orders: {eventSource: shp, event: orders}
payments: {eventSource: shop, event: payment}
"""


def test_dangling_inputs_are_warnings_and_the_trigger_runs(tmp_path: Path) -> None:
    inputs = "".join(f"  {line}\n" for line in DANGLING.strip().splitlines()).rstrip()
    resolution = of(tmp_path, SHOP, trigger("- {name: a, topic: out}", inputs))
    assert [(each.severity, each.path, each.sentence) for each in resolution.problems] == [
        (
            "warning",
            "spec.inputs.orders.eventSource",
            "EventSource default/shp is not in the set; did you mean shop?",
        ),
        (
            "warning",
            "spec.inputs.payments.event",
            "EventSource default/shop has no event payment; did you mean payments?",
        ),
    ]
    assert len(triggers(resolution)) == 1


def test_a_source_without_a_bus_or_on_another_is_a_warning(tmp_path: Path) -> None:
    direct = resource("EventSource", "shop", "sink: {uri: 'http://x'}\nwebhook: {orders: {}}")
    inputs = "  orders: {eventSource: shop, event: orders}"
    text = trigger("- {name: a, topic: out}", inputs)
    assert "publishes on no EventBus" in only(of(tmp_path, direct, text)).message
    bus = resource("EventBus", "other", "jetstream: {}")
    away = resource("EventSource", "shop", "eventBus: other\nwebhook: {orders: {}}")
    problem = only(of(tmp_path, bus, away, text))
    assert problem.message == (
        "EventSource default/shop publishes on EventBus default/other, not on default"
    )


@pytest.mark.parametrize(
    ("allowed", "severities"),
    [("", ["warning", "warning"]), ("[]", ["error"]), ("[bank, x]", ["error"]), ("[default]", [])],
)
def test_allow_namespaces_is_enforced(tmp_path: Path, allowed: str, severities: list[str]) -> None:
    line = f"\nallowNamespaces: {allowed}" if allowed else ""
    shop = resource("EventSource", "shop", f"eventBus: default\nwebhook: {{o: {{}}}}{line}", "shop")
    inputs = "  o: {eventSource: shop, event: o, namespace: shop}"
    resolution = of(tmp_path, shop, trigger("- {name: a, topic: out}", inputs))
    assert [each.severity for each in resolution.problems] == severities
    assert len(triggers(resolution)) == (0 if severities == ["error"] else 1)
    if severities == ["error"]:
        assert resolution.problems[0].path == "spec.inputs.o.namespace"
        assert "does not let namespace default read" in resolution.problems[0].message
    spec = (
        "eventBus: default\ninputs: {o: {eventSource: shop, event: o}}\nsubscribers: [{topic: x}]"
    )
    own = resource("Trigger", "own", spec, "shop")
    clean(of(tmp_path, shop, own))


@pytest.mark.parametrize("name", ["event", "events", "inputs", "in", "true", "package"])
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    inputs = f"  '{name}': {{eventSource: shop, event: orders}}"
    problem = only(of(tmp_path, SHOP, trigger("- {name: a, topic: out}", inputs)))
    assert (problem.severity, problem.line) == ("error", 16)
    assert f"no input can be named {name}" in problem.message


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ("  o: {}", "does not say what it reads; expected eventSource and event, or topic"),
        ("  o: {eventSource: shop}", "does not say what it reads"),
        ("  o: {eventSource: shop, event: orders, topic: x}", "not both"),
    ],
)
def test_an_input_is_an_event_or_a_topic(tmp_path: Path, inputs: str, sentence: str) -> None:
    problem = only(of(tmp_path, SHOP, trigger("- {name: a, topic: out}", inputs)))
    assert problem.severity == "error" and sentence in problem.sentence


@pytest.mark.parametrize(
    ("subscribers", "path", "sentence"),
    [
        ("- {name: a}", "spec.subscribers[0]", "expected sink or topic"),
        ("- {name: a, topic: x}\n- {name: a, topic: y}", "spec.subscribers[1].name", "named a"),
        (
            "- {name: a, sink: {ref: {apiVersion: v1, kind: Function, name: f}}}",
            "spec.subscribers[0].sink.ref.kind",
            "v1 has no kind Function; did you mean Service?",
        ),
        (
            "- {name: a, sink: {ref: {apiVersion: apps/v1, kind: Deployment, name: f}}}",
            "spec.subscribers[0].sink.ref.apiVersion",
            "apps/v1 Deployment cannot be called",
        ),
    ],
)
def test_a_wrong_subscriber(tmp_path: Path, subscribers: str, path: str, sentence: str) -> None:
    problem = only(of(tmp_path, SHOP, trigger(subscribers)))
    assert (problem.severity, problem.path) == ("error", path)
    assert sentence in problem.sentence


def test_two_dead_letters_are_told(tmp_path: Path) -> None:
    text = "- {name: a, topic: x, deadLetterTopic: y, deadLetterSink: {uri: 'http://d'}}"
    resolution = of(tmp_path, SHOP, trigger(text))
    assert "deadLetterSink wins" in only(resolution).message
    assert triggers(resolution)[0].subscribers[0].dead_letter == HttpTarget(uri="http://d")


def test_a_trigger_that_feeds_itself_is_told(tmp_path: Path) -> None:
    inputs = "  m: {topic: metrics}"
    text = trigger("- {name: a, topic: metrics}\n- {name: b, topic: x, reply: metrics}", inputs)
    resolution = of(tmp_path, text)
    assert [each.path for each in resolution.warnings] == [
        "spec.subscribers[0].topic",
        "spec.subscribers[1].reply",
    ]
    assert len(triggers(resolution)) == 1


def test_a_topic_of_another_namespace_cannot_be_read(tmp_path: Path) -> None:
    inputs = "  m: {topic: metrics, namespace: bank}"
    problem = only(of(tmp_path, trigger("- {name: a, topic: x}", inputs)))
    assert (problem.severity, problem.path) == ("error", "spec.inputs.m.namespace")


def test_a_reference_to_a_document_with_errors_says_so(tmp_path: Path) -> None:
    wrong = SHOP.replace("orders: {}", "orders: {prt: 1}")
    resolution = of(tmp_path, wrong, trigger("- {name: a, topic: x}"))
    assert [each.message for each in resolution.warnings] == [
        "EventSource default/shop has errors itself",
        "EventSource default/shop has errors itself",
    ]
    bus = resource("EventBus", "default", "jetstrem: {}")
    found = of(tmp_path, bus, SHOP)
    assert [each.message for each in found.warnings] == [
        "EventBus default/default has errors itself"
    ]
    assert found.workers == ()


def test_a_dead_letter_sink_that_is_not_there_blocks_too(tmp_path: Path) -> None:
    ref = "{apiVersion: v1, kind: Service, name: dead}"
    text = trigger(f"- {{name: a, topic: x, deadLetterSink: {{ref: {ref}}}}}")
    resolution = of(tmp_path, SHOP, text)
    assert only(resolution).path == "spec.subscribers[0].deadLetterSink.ref.name"
    assert triggers(resolution) == [] and len(resolution.blocked) == 1
