"""A reference that leads nowhere keeps from running all that would use it, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from .sets import SHOP, of, only, resource, sources, trigger, triggers

LOGIN = "{valueFrom: {secretKeyRef: {name: s, key: p}}}"
SINK = f"sink: {{uri: 'http://a/', auth: {{bearer: {LOGIN}}}}}"
BUS = resource(
    "EventBus",
    "default",
    f"jetstream: {{url: 'nats://a', credentials: {{username: u, password: {LOGIN}}}}}",
)


@pytest.mark.parametrize("documents", [
    (SHOP, trigger(f"- name: a\n  {SINK}")),
    (BUS, SHOP, trigger("- name: a\n  topic: x")),
])  # fmt: skip
def test_a_trigger_without_a_secret_does_not_run(
    tmp_path: Path, documents: tuple[str, ...]
) -> None:
    resolution = of(tmp_path, *documents)
    assert triggers(resolution) == []
    assert [one.name for one in resolution.blocked if one.kind == "Trigger"] == ["t"]


@pytest.mark.parametrize("way", ["eventBus: default", SINK])
def test_a_source_whose_way_lacks_a_secret_does_not_run(tmp_path: Path, way: str) -> None:
    spec = f"{way}\nwebhook: {{a: {{}}, b: {{port: 81}}}}"
    resolution = of(tmp_path, BUS, resource("EventSource", "shop", spec))
    assert only(resolution).blocks
    assert sources(resolution) == {}
    assert [one.entry for one in resolution.blocked] == ["webhook/a", "webhook/b"]


def test_an_implicit_trigger_does_not_wait_for_what_an_entry_lacks(tmp_path: Path) -> None:
    spec = (
        "eventBus: default\nsink: {uri: 'http://a/'}\n"
        f"webhook: {{a: {{}}, b: {{port: 81, auth: {{bearer: {LOGIN}}}}}}}"
    )
    resolution = of(tmp_path, resource("EventSource", "shop", spec))
    assert set(sources(resolution)) == {"a"}
    assert len(triggers(resolution)) == 1
