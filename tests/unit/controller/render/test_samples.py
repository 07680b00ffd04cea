"""The samples as a cluster gets them, word for word; and markers on their way through resolve.

`python -m tests.unit.controller.render.test_samples` writes the golden file anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ofevents.api.secretref import marker, markers
from ofevents.controller.render import Workload, children
from ofevents.resolve import Documents, FileLookUp, interpret, resolve
from ofevents.resolve.documents import load
from tests.unit.controller.render.samples import OWNER, PLATFORM

ROOT = Path(__file__).parents[4]
GOLDEN = Path(__file__).parent / "golden" / "quickstart.yaml"


def rendered() -> str:
    files = sorted((ROOT / "deploy/samples/quickstart").glob("*.yaml"))
    workers = resolve(load(files)).workers
    manifests = children(OWNER, [Workload(each) for each in workers], PLATFORM).manifests
    return yaml.dump_all(manifests, Dumper=_Plain, sort_keys=True)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_the_quickstart_is_what_it_was() -> None:
    assert rendered() == GOLDEN.read_text()


class _Markers(FileLookUp):
    def secret(self, namespace: str, name: str, key: str) -> str:
        return marker(name, key)


def _ref(key: str) -> Any:
    return {"valueFrom": {"secretKeyRef": {"name": "login", "key": key}}}


def test_resolve_lets_a_marker_through_wherever_a_credential_may_stand() -> None:
    sink = {
        "uri": "https://a.example/",
        "auth": {"basic": {"username": _ref("user"), "password": _ref("password")}},
        "headers": {"X-Key": _ref("header")},
        "tls": {"ca": _ref("ca"), "cert": _ref("cert"), "key": _ref("key")},
    }
    source = {
        "apiVersion": "events.openfunction.io/v1alpha1",
        "kind": "EventSource",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "sink": sink,
            "rabbitmq": {"r": {"url": _ref("amqp"), "queue": "q"}},
            "mqtt": {"m": {"url": _ref("mqtt"), "topic": "t"}},
            "nats": {"n": {"url": "nats://n", "subject": "s", "credentials": {"nkey": _ref("nk")}}},
        },
    }
    loaded, problems = interpret(source)
    assert loaded is not None, problems
    documents = Documents((loaded,), ())
    found = resolve(documents, _Markers(documents))
    assert not found.errors
    assert len(found.workers) == 3
    wanted = {"user", "password", "header", "ca", "cert", "key", "amqp", "mqtt", "nk"}
    named = set()
    for worker in found.workers:
        named |= {key for _, key in markers(worker.model_dump(mode="json"))}
    assert named == wanted


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(rendered())
