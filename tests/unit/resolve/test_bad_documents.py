"""Every kind of bad document, each with its place, what was expected, the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.resolve import interpret, load

from .sets import HEAD, SHOP, clean, of, only, resource, trigger

TOPIC = "- {topic: out}"


def test_the_good_set_has_no_problem(tmp_path: Path) -> None:
    clean(of(tmp_path, SHOP, trigger(TOPIC)))


@pytest.mark.parametrize(
    ("text", "line", "path", "sentence"),
    [
        ("just text\n", 1, "", "must be a mapping"),
        ("[1, 2]\n", 1, "", "must be a mapping"),
        (
            "kind: Trigger\n",
            1,
            "",
            "apiVersion is missing; expected events.openfunction.io/v1alpha1",
        ),
        (f"{HEAD}metadata: {{name: a}}\n", 1, "", "kind is missing; expected EventBus"),
        (f"{HEAD}kind: Triggr\n", 2, "kind", "unknown kind Triggr; did you mean Trigger?"),
        (f"{HEAD}kind: Broker\n", 2, "kind", "expected EventBus, ClusterEventBus"),
        (
            "apiVersion: events.openfunction.io/v1\nkind: Trigger\n",
            1,
            "apiVersion",
            "did you mean events.openfunction.io/v1alpha1?",
        ),
        (
            "apiVersion: event.openfunction.io/v1alpha1\nkind: Trigger\n",
            1,
            "apiVersion",
            "is not read; expected events.openfunction.io/v1alpha1",
        ),
        ("apiVersion: v1alpha1\nkind: Trigger\n", 1, "apiVersion", "did you mean events."),
        ("apiVersion: argoproj.io/v1alpha1\nkind: EventSource\n", 1, "apiVersion", "is not read"),
        (f"{HEAD}kind: Trigger\nmetadata: {{name: a}}\n", 1, "spec", "spec is missing"),
        (f"{HEAD}kind: Trigger\nspec: {{}}\n", 1, "metadata", "metadata is missing"),
    ],
)
def test_a_document_of_no_kind(
    tmp_path: Path, text: str, line: int, path: str, sentence: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    problems = [each for each in load([tmp_path]).problems if sentence in each.sentence]
    assert len(problems) == 1, load([tmp_path]).problems
    [problem] = problems
    assert (problem.severity, problem.line, problem.path) == ("error", line, path)
    assert problem.where.startswith(f"{tmp_path}/bad.yaml:{line}")


def test_a_document_of_others_is_a_warning(tmp_path: Path) -> None:
    problem = only(of(tmp_path, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"))
    assert problem.severity == "warning"
    assert "apps/v1 Deployment is not read" in problem.message


@pytest.mark.parametrize(
    ("spec", "line", "path", "sentence"),
    [
        ("evntBus: default", 5, "spec.evntBus", "unknown field evntBus; did you mean eventBus?"),
        ("event_bus: default", 5, "spec.event_bus", "did you mean eventBus?"),
        ("kafka: {o: {topic: a}}", 5, "spec.kafka.o.brokers", "brokers is missing"),
        (
            "kafka:\n  o:\n    brokers: a:1\n    initialOffset: newset",
            8,
            "spec.kafka.o.initialOffset",
            "cannot be 'newset'; did you mean newest?",
        ),
        (
            "webhook:\n  o:\n    port: '80'",
            7,
            "spec.webhook.o.port",
            "port cannot be text; expected a whole number",
        ),
        ("webhook: {o: {port: 70000}}", 5, "spec.webhook.o.port", "out of bounds"),
        ("webhook: {o: {path: no}}", 5, "spec.webhook.o.path", "path cannot be true or false"),
        ("logLevel: 2", 5, "spec.logLevel", "cannot be a number (put it in quotes)"),
        ("cron: {c: {schedule: '61 * * * *'}}", 5, "spec.cron.c.schedule", "field minute"),
        (
            "cron: {c: {schedulee: '* * * * *'}}",
            5,
            "spec.cron.c.schedulee",
            "did you mean schedule?",
        ),
        ("delivery: {timeout: 30}", 5, "spec.delivery.timeout", "a duration such as 500ms"),
        ("delivery: {timeout: 5 sec}", 5, "spec.delivery.timeout", "a duration such as 500ms"),
        ("delivery: {rateLimit: 5}", 5, "spec.delivery.rateLimit", "a rate such as 100/s"),
        ("webhook: {o: {maxBodyBytes: 1MB}}", 5, "spec.webhook.o.maxBodyBytes", "a size in bytes"),
        ("suspend: 'yes'", 5, "spec.suspend", "cannot be text; expected true or false"),
        ("kafka: [1]", 5, "spec.kafka", "kafka cannot be a list"),
        ("sink: {}", 5, "spec.sink", "expected one of uri, ref"),
        ("sink: {uri: nowhere}", 5, "spec.sink.uri", "begins with http:// or https://"),
        ("webhook: {o: {path: orders}}", 5, "spec.webhook.o.path", "a path that begins with /"),
        (
            "kafka:\n  o:\n    saslPassword: {valueFrom: {secretKeyRef: {namee: x}}}",
            7,
            "spec.kafka.o.saslPassword.valueFrom.secretKeyRef.namee",
            "did you mean name?",
        ),
    ],
)
def test_a_bad_field(tmp_path: Path, spec: str, line: int, path: str, sentence: str) -> None:
    (tmp_path / "a.yaml").write_text(resource("EventSource", "shop", spec))
    found = [each for each in load([tmp_path]).problems if sentence in each.sentence]
    assert [(each.line, each.path) for each in found] == [(line, path)]
    assert found[0].resource == "EventSource default/shop"
    assert found[0].severity == "error"


def test_a_bad_name_says_which_are_good(tmp_path: Path) -> None:
    problem = only(of(tmp_path, resource("EventBus", "My_Bus", "jetstream: {}")))
    assert problem.path == "metadata.name"
    assert "Lower-case letters, digits" in problem.sentence


def test_a_value_in_a_wrong_place_is_not_shown(tmp_path: Path) -> None:
    spec = "kafka: {o: {brokers: a, saslPassword: 12345, tls: geheim, saslUsername: [geheim]}}"
    resolution = of(tmp_path, resource("EventSource", "shop", spec))
    shown = "\n".join(map(str, resolution.problems))
    assert len(resolution.errors) == 3
    assert "12345" not in shown and "geheim" not in shown


def test_the_same_resource_twice_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SHOP)
    (tmp_path / "b.yaml").write_text("# a line\n" + SHOP)
    documents = load([tmp_path])
    [problem] = documents.problems
    assert problem.file.endswith("b.yaml") and problem.line == 4
    assert "is declared twice; also in " in problem.message
    assert problem.message.endswith("a.yaml:3")
    assert len(documents.loaded) == 1


def test_several_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    bad = resource(
        "EventSource",
        "shop",
        """
eventBus: default
webhook:
  orders:
    prt: 8080
    filter: event.tpe == "x"
cron:
  tick: {schedule: nope}
""",
    )
    wrong = trigger("- {condition: order, topic: out}\n- {condition: 'orders &&', topic: out}")
    (tmp_path / "a.yaml").write_text(bad)
    (tmp_path / "b.yaml").write_text(wrong)
    (tmp_path / "c.yaml").write_text("a: [\n")
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe\x00a")
    loaded = load([tmp_path, tmp_path / "missing.yaml"])
    from ofevents.resolve import resolve

    found = [(Path(each.file).name, each.line, each.path) for each in resolve(loaded).errors]
    assert found == [
        ("a.yaml", 8, "spec.webhook.orders.prt"),
        ("a.yaml", 9, "spec.webhook.orders.filter"),
        ("a.yaml", 11, "spec.cron.tick.schedule"),
        ("b.yaml", 10, "spec.subscribers[0].condition"),
        ("b.yaml", 11, "spec.subscribers[1].condition"),
        ("c.yaml", 2, ""),
        ("d.yaml", 0, ""),
        ("missing.yaml", 0, ""),
    ]


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    [problem] = load([tmp_path]).problems
    assert "has no .yaml, .yml, .json files" in problem.message


def test_a_list_as_kubectl_prints_it_is_its_items(tmp_path: Path) -> None:
    indented = "".join(
        f"{'- ' if number == 0 else '  '}{line}\n"
        for number, line in enumerate(SHOP.replace("orders: {}", "ordrs: {prt: 1}").splitlines())
    )
    (tmp_path / "a.yaml").write_text(f"apiVersion: v1\nkind: List\nitems:\n{indented}")
    [problem] = load([tmp_path]).problems
    assert (problem.line, problem.path) == (10, "spec.webhook.ordrs.prt")
    assert problem.resource == "EventSource default/shop"


def test_an_object_without_a_file_is_judged_alike() -> None:
    value = {"apiVersion": "events.openfunction.io/v1alpha1", "kind": "Trigger",
             "metadata": {"name": "a", "namespace": "n"}, "spec": {"eventBuss": "x"}}  # fmt: skip
    loaded, problems = interpret(value)
    assert loaded is None
    assert "unknown field eventBuss; did you mean eventBus?" in [each.sentence for each in problems]
    assert {each.resource for each in problems} == {"Trigger n/a"}
    assert {each.where for each in problems} == {""}


def test_a_bad_field_hides_no_bad_expression(tmp_path: Path) -> None:
    bad = resource(
        "Trigger",
        "t",
        """
evntBus: default
inputs:
  orders: {eventSource: shop, event: orders, filter: event.tpe == 'x', fltr: a}
  other: {topic: 5}
subscribers:
- {name: a, topic: x, condition: orders && othr, delivery: {timeout: 5}}
- {name: B, condition: ordrs}
- {name: c, topic: x, condition: other, payload: '{'}
""",
    )
    assert [(each.line, each.path) for each in of(tmp_path, SHOP, bad).problems] == [
        (13, "spec.eventBus"),
        (14, "spec.evntBus"),
        (16, "spec.inputs.orders.filter"),
        (16, "spec.inputs.orders.fltr"),
        (17, "spec.inputs.other.topic"),
        (19, "spec.subscribers[0].condition"),
        (19, "spec.subscribers[0].delivery.timeout"),
        (20, "spec.subscribers[1].name"),
        (20, "spec.subscribers[1].condition"),
        (21, "spec.subscribers[2].payload"),
    ]


def test_a_missing_field_hides_no_bad_expression(tmp_path: Path) -> None:
    bad = resource(
        "EventSource",
        "s",
        """
eventBus: default
kafka:
  orders: {topic: orders, authRequired: false, filter: event.tpe == 'x'}
""",
    )
    assert [each.path for each in of(tmp_path, bad).problems if each.severity == "error"] == [
        "spec.kafka.orders.brokers",
        "spec.kafka.orders.filter",
    ]
