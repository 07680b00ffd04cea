"""What a worker that needs Dapr is given: its sinks, its mode, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.api.resolved import HttpTarget, SinkTarget
from tests.unit.resolve.sets import SHOP, clean, of, only, sources, trigger, triggers

INVOKE = "- {name: a, sink: {dapr: {appId: billing, method: orders/paid, metadata: {x-shop: a}}}}"
BINDING = """- name: a
  sink:
    dapr:
      operation: create
      component:
        type: bindings.kafka
        metadata:
        - {name: brokers, value: "k:9092"}
        - {name: saslPassword, secretKeyRef: {name: kafka, key: password}}"""
SECRET = """apiVersion: v1
kind: Secret
metadata: {name: kafka}
stringData: {password: hidden}
"""


def test_an_app_is_a_function_through_the_sidecar(tmp_path: Path) -> None:
    (made,) = triggers(clean(of(tmp_path, SHOP, trigger(INVOKE))))
    expected = HttpTarget(uri="dapr://billing/orders/paid", headers={"x-shop": "a"})
    assert made.subscribers[0].target == expected


def test_an_app_through_a_sidecar_that_is_named(tmp_path: Path) -> None:
    text = "- {name: a, sink: {dapr: {appId: billing, method: paid, sidecar: 'dapr:3500'}}}"
    (made,) = triggers(clean(of(tmp_path, SHOP, trigger(text))))
    target = made.subscribers[0].target
    assert isinstance(target, HttpTarget)
    assert target.uri == "http://dapr:3500/v1.0/invoke/billing/method/paid"


def test_a_binding_written_in_the_sink_gets_a_name_and_its_secrets(tmp_path: Path) -> None:
    (made,) = triggers(clean(of(tmp_path, SHOP, SECRET, trigger(BINDING))))
    target = made.subscribers[0].target
    assert isinstance(target, SinkTarget) and target.sink == "dapr"
    assert target.spec["componentName"].startswith("ofe-t-spec-subscribers-0-sink-")
    assert "hidden" not in target.spec["componentName"]
    settings = {one["name"]: one["value"] for one in target.spec["component"]["metadata"]}
    assert settings == {"brokers": "k:9092", "saslPassword": "hidden"}


@pytest.mark.parametrize(
    ("sink", "sentence"),
    [
        ("{}", "expected appId and method"),
        ("{appId: a, componentName: b, operation: c}", "expected appId and method"),
        ("{appId: a}", "an app needs method"),
        ("{appId: a, method: b, operation: c}", "an app needs method"),
        ("{componentName: a}", "needs operation"),
        ("{componentName: a, operation: b, method: c}", "needs operation"),
    ],
)
def test_a_sink_that_contradicts_itself(tmp_path: Path, sink: str, sentence: str) -> None:
    text = trigger(f"- {{name: a, sink: {{dapr: {sink}}}}}")
    assert sentence in str(only(of(tmp_path, SHOP, text)))


def _annotated(text: str, mode: str) -> str:
    note = f", annotations: {{openfunction.io/dapr-service-mode: {mode}}}}}"
    head, brace, rest = text.partition("}\nspec:")
    return head + note + brace[1:] + rest


@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
def test_openfunctions_annotation_says_where_the_sidecar_is(tmp_path: Path, mode: str) -> None:
    shop, text = _annotated(SHOP, mode), _annotated(trigger(INVOKE), mode)
    resolution = clean(of(tmp_path, shop, text))
    assert {each.dapr_mode for each in resolution.workers} == {mode}


def test_without_the_annotation_it_is_a_sidecar(tmp_path: Path) -> None:
    resolution = clean(of(tmp_path, SHOP, trigger(INVOKE)))
    assert sources(resolution)["orders"].dapr_mode == "sidecar"


def test_an_annotation_that_means_nothing_is_told_once(tmp_path: Path) -> None:
    problem = only(of(tmp_path, _annotated(SHOP, "standalon")))
    assert problem.severity == "error"
    assert "is no way to run Dapr" in problem.message and "standalone" in str(problem)
