"""What only Kubernetes has: changes, selectors, rights, 410; on a real kube-apiserver."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from ofevents import kubernetes_login
from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected
from ofevents.event import Event
from ofevents_adapters import kubernetes, kubernetes_api
from tests.conformance.rigs.doomed import line_of
from tests.conformance.rigs.kubernetes import MAPS, KubernetesRig, open_rig
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(240)

READER = "reader-token"
RIGHTS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


@pytest.fixture
async def rig() -> AsyncIterator[KubernetesRig]:
    async with open_rig(users=(f"{READER},reader,reader",)) as one:
        yield one


@asynccontextmanager
async def watching(rig: KubernetesRig, **fields: Any) -> AsyncIterator[Emitted]:
    """A worker with these fields, while in the `with`."""
    rig.fields |= fields
    emit = Emitted(rig)
    async with working(rig, emit):
        yield emit


def told(emit: Emitted) -> list[tuple[str, str]]:
    return [(event.type.rpartition(".")[2], rig_name(event)) for event in emit.settled]


def rig_name(event: Event) -> str:
    return str(event.value["metadata"]["name"])


async def come(emit: Emitted, *wanted: tuple[str, str]) -> None:
    await within(lambda: len(emit.settled) >= len(wanted), f"{wanted} came, not {told(emit)}")
    assert told(emit) == list(wanted)


async def once(rig: KubernetesRig, **fields: Any) -> None:
    """One life of a worker, which must end with an error."""
    rig.fields |= fields
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


async def kept(rig: KubernetesRig) -> str:
    """The stored position."""
    assert rig.store is not None
    found = await rig.store.get("kubernetes/default/shop/orders/position")
    return found.value.decode() if found is not None else ""


# -- changes ----------------------------------------------------------------------------


async def test_the_changes_of_an_object(rig: KubernetesRig) -> None:
    await rig.create("before")
    async with watching(rig) as emit:
        await rig.create("a", amount="1")
        await rig.change("a", amount="2")
        await rig.delete("a")
        await come(emit, ("added", "a"), ("modified", "a"), ("deleted", "a"))
    added, modified, deleted = emit.settled
    assert added.value["data"] == {"amount": "1"} and modified.value["data"] == {"amount": "2"}
    assert deleted.value["kind"] == "ConfigMap" and deleted.value["apiVersion"] == "v1"
    assert added.attributes["subject"] == added.partitionkey == "default/a"
    assert added.attributes["kubernetesobjectkind"] == "ConfigMap"
    uid = added.value["metadata"]["uid"]
    assert len({event.id for event in emit.settled}) == 3
    assert all(event.id.startswith(f"{uid}@") for event in emit.settled)


async def test_only_what_is_asked_for(rig: KubernetesRig) -> None:
    async with watching(rig, eventTypes=["DELETED"], fieldSelector="metadata.name!=c") as emit:
        for name in ("a", "b", "c"):
            await rig.create(name)
            await rig.delete(name)
        await rig.create("d")
        await rig.change("d", x="1")
        await rig.delete("d")
        await come(emit, ("deleted", "a"), ("deleted", "b"), ("deleted", "d"))


async def test_what_the_label_selector_does_not_match_any_more_is_deleted(
    rig: KubernetesRig,
) -> None:
    path = "/api/v1/namespaces/default/configmaps/a"
    async with watching(rig) as emit:
        await rig.create("a")
        labels = {"metadata": {"labels": {"shop": "no"}}}
        await rig.server.call("PATCH", path, labels, kind="merge-patch")
        await come(emit, ("added", "a"), ("deleted", "a"))


async def test_namespaces(rig: KubernetesRig) -> None:
    for name in ("one", "two"):
        await rig.server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    every, one, own = Emitted(rig), Emitted(rig), Emitted(rig)
    rig.store = None
    rig.fields["namespace"] = "*"
    async with working(rig, every):
        rig.fields["namespace"] = "one"
        async with working(rig, one):
            del rig.fields["namespace"]
            async with working(rig, own):
                for name in ("one", "two", "default"):
                    await rig.create(f"in-{name}", f"/api/v1/namespaces/{name}/configmaps")
                await come(every, ("added", "in-one"), ("added", "in-two"), ("added", "in-default"))
                await come(one, ("added", "in-one"))
                await come(own, ("added", "in-default"))


async def test_a_kind_without_a_namespace_and_a_custom_one(rig: KubernetesRig) -> None:
    with pytest.raises(ConfigError, match="Namespace is in no namespace") as caught:
        await once(rig, kind="Namespace", namespace="default")
    assert caught.value.path == "spec.kubernetes.orders.namespace"
    del rig.fields["namespace"]
    async with watching(rig, labelSelector="") as emit:
        await rig.server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "one"}})
        await within(lambda: ("added", "one") in told(emit), "the namespace came")
    rig.fields = {"apiVersion": "shop.example/v1", "kind": "Order", "labelSelector": ""}
    with pytest.raises(Disconnected, match=r"no Order in shop\.example/v1: install it"):
        await once(rig)
    definition = {
        "metadata": {"name": "orders.shop.example"},
        "spec": {
            "group": "shop.example",
            "names": {"kind": "Order", "plural": "orders"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await rig.server.call("POST", path, definition)
    rig.store = None
    emit = Emitted(rig)
    async with working(rig, emit):
        order = {
            "apiVersion": "shop.example/v1",
            "kind": "Order",
            "metadata": {"name": "o"},
            "amount": 7,
        }
        await rig.server.call("POST", "/apis/shop.example/v1/namespaces/default/orders", order)
        await come(emit, ("added", "o"))
    assert emit.settled[0].value["amount"] == 7


# -- positions --------------------------------------------------------------------------


async def test_a_restart_goes_on_where_it_was(rig: KubernetesRig) -> None:
    async with watching(rig) as emit:
        await rig.create("a")
        await come(emit, ("added", "a"))
    await rig.create("b")
    await rig.delete("a")
    async with watching(rig) as emit:
        await come(emit, ("added", "b"), ("deleted", "a"))


async def test_without_a_bus_a_restart_begins_with_what_changes_then(rig: KubernetesRig) -> None:
    rig.store = None
    async with watching(rig) as emit:
        for name in ("a", "b", "c"):
            await rig.create(name)
        await come(emit, ("added", "a"), ("added", "b"), ("added", "c"))
    assert emit.most_inside == 1
    await rig.create("d")
    async with watching(rig) as emit:
        await rig.create("e")
        await come(emit, ("added", "e"))


async def test_a_bookmark_moves_the_position(
    rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing of ours changes, others do: the position would be too old one day."""
    monkeypatch.setattr(kubernetes_api, "WATCH", 4)
    async with watching(rig, labelSelector="shop=none") as emit:
        before = await kept(rig)
        await rig.create("a")

        async def moved() -> bool:
            return await kept(rig) != before

        await until(moved, seconds=60, what="the position moves")
    assert not emit.offered


async def test_a_watch_that_the_server_ends_goes_on(
    rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_api, "WATCH", 1)
    async with watching(rig) as emit:
        names = [f"n{number}" for number in range(12)]
        for name in names:
            await rig.create(name)
            await asyncio.sleep(0.25)
        await come(emit, *(("added", name) for name in names))


async def test_what_the_server_has_forgotten_is_listed_and_told(rig: KubernetesRig) -> None:
    async with watching(rig) as emit:
        for name in ("a", "b", "c"):
            await rig.create(name)
        await asyncio.sleep(1.1)  # times of creation are in whole seconds
        await rig.create("later")
        await come(emit, *(("added", name) for name in ("a", "b", "c", "later")))
    await rig.change("a", n="1")
    await rig.change("a", n="2")
    await rig.delete("b")
    await rig.create("d")
    await rig.server.restart()  # it knows nothing of before any more
    with capture_logs() as logs:
        async with watching(rig) as emit:
            await within(lambda: len(emit.settled) >= 2, "what is newer came")
            await rig.create("e")
            await within(lambda: len(emit.settled) >= 3, "the watch goes on")
    assert sorted(told(emit)) == [("added", "d"), ("added", "e"), ("modified", "a")]
    assert emit.settled[0].value["apiVersion"] == "v1"
    modified = next(event for event in emit.settled if rig_name(event) == "a")
    assert modified.value["data"] == {"n": "2"} and modified.value["kind"] == "ConfigMap"
    [expired] = [line for line in logs if line["event"] == "expired"]
    assert "deletions since then are missed" in expired["reason"]


async def test_a_long_list_is_read_page_by_page(
    rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "PAGE", 5)
    async with watching(rig):
        pass
    names = await rig.feed(23)
    await rig.server.restart()
    async with watching(rig) as emit:
        await emit.settles(names)
    assert emit.most_inside <= 5 and len(emit.offered) == 23


# -- several workers --------------------------------------------------------------------


async def test_one_worker_watches_and_another_stands_by(rig: KubernetesRig) -> None:
    one, two = Emitted(rig), Emitted(rig)
    async with working(rig, one):
        async with working(rig, two) as standby:
            assert "another worker watches" in standby.started[0]
            await rig.create("a")
            await come(one, ("added", "a"))
        assert not two.offered


WORKER = """
import asyncio, sys
from ofevents.api.platform import KubernetesSpec
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.errors import Disconnected
from ofevents.ports import SourceIdentity
from ofevents_adapters import kubernetes

kubernetes.LEASE = 2.0

async def emit(*events):
    for event in events:
        await asyncio.sleep(0.02)  # most of its time it is in here, also when it is killed
        sys.stdout.write(f"{event.id} {event.value['metadata']['name']}\\n")
        sys.stdout.flush()

async def main():
    bus = ResolvedBus(name="b", driver="jetstream", options={"url": sys.argv[1]})
    async with open_bus(bus, clock=SystemClock()) as bus:
        await bus.ensure([topics.event("default", "shop", "orders")], [])
        spec = KubernetesSpec(api_version="v1", kind="ConfigMap", label_selector="shop=yes")
        identity = SourceIdentity("default", "shop", "kubernetes", "orders")
        source = kubernetes.KubernetesSource(spec, identity, clock=SystemClock())
        while True:  # as the engine: a lease is lost in a pause, too
            try:
                await source.run(emit, store=bus.store, started=lambda _: print("up", flush=True))
            except Disconnected:
                await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_a_worker_that_is_killed_repeats_little_and_loses_nothing(
    rig: KubernetesRig, tmp_path: Path
) -> None:
    seen: dict[str, set[str]] = {}
    fed: list[str] = []

    def note(output: bytes) -> None:
        for line in output.decode().splitlines(keepends=True):
            if line.endswith("\n") and line != "up\n":  # it may have been killed inside a line
                id, name = line.split()
                seen.setdefault(name, set()).add(id)

    async with NatsServer(tmp_path) as server:
        for life in range(4):
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, server.url, stdout=asyncio.subprocess.PIPE
            )
            assert worker.stdout is not None
            try:
                assert await line_of(worker.stdout) == b"up\n"
                fed += await rig.feed(20)
                while len(seen) < len(fed) - (10 if life < 3 else 0):
                    note(await line_of(worker.stdout))
            finally:
                worker.kill()
                note(await worker.stdout.read())
                await worker.wait()
    assert set(fed) == set(seen)
    assert all(len(ids) == 1 for ids in seen.values())


# -- who may ------------------------------------------------------------------------------


async def allowed(rig: KubernetesRig) -> bool:
    """Whether the server lets the reader in: it learns of a binding after it has stored it."""
    try:
        await rig.server.call("GET", MAPS, token=READER)
    except RuntimeError:
        return False
    return True


async def test_rights(rig: KubernetesRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(rig.server.kubeconfig(tmp_path / "r", READER)))
    with pytest.raises(ConfigError, match="allow get, list and watch") as caught:
        await once(rig)
    assert caught.value.path == "spec.kubernetes.orders"
    assert READER not in str(caught.value)
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    await rig.server.call("POST", f"{RIGHTS}/roles", {"metadata": {"name": "r"}, "rules": rules})
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [
            {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "ServiceAccount", "name": "source", "namespace": "default"},
        ],
    }
    await rig.server.call("POST", f"{RIGHTS}/rolebindings", binding)
    await until(lambda: allowed(rig), seconds=60, what="the server knows of the rights")
    async with watching(rig) as emit:
        await rig.create("a")
        await come(emit, ("added", "a"))
    # The same with the token that a Pod finds.
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await rig.server.call("POST", accounts, {"metadata": {"name": "source"}})
    made = await rig.server.call("POST", f"{accounts}/source/token", {"spec": {}})
    (tmp_path / "token").write_text(made["status"]["token"])
    (tmp_path / "ca.crt").write_bytes(rig.server.ca.read_bytes())
    monkeypatch.setattr(kubernetes_login, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(rig.server.port))
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    async with watching(rig) as emit:
        await rig.create("b")
        await come(emit, ("added", "b"))


async def test_a_login_that_is_refused(
    rig: KubernetesRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(rig.server.kubeconfig(tmp_path / "x", "no-such-token")))
    with pytest.raises(ConfigError, match="refuses the login") as caught:
        await once(rig)
    assert "no-such-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"labelSelector": "a in ("}, "labelSelector"),
        ({"fieldSelector": "no.such=1"}, "fieldSelector"),
    ],
)
async def test_a_selector_that_is_none(
    rig: KubernetesRig, fields: dict[str, str], path: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await once(rig, **fields)
    assert caught.value.path == f"spec.kubernetes.orders.{path}"


async def test_a_server_that_is_not_trusted(rig: KubernetesRig, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(rig.server.ca)
    with pytest.raises(Disconnected, match=r"(?i)certificate.verify.failed"):
        await once(rig)
