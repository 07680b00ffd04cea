"""A controller of chosen namespaces, as `ofevents install --watch-namespace` starts it: with the
account and the Roles of that installation, and no right anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.controller.admission import NAME
from ofevents.install.access import account, roles
from ofevents.install.settings import Settings
from ofevents.install.workload import arguments
from tests.e2e.controller.rig import IMAGE, Cluster, cron, resource, secret, trigger
from tests.e2e.controller.test_foreign import CRDS, SCALE
from tests.e2e.processes import OFEVENTS, Program
from tests.servers import free_port, until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(360), pytest.mark.asyncio(loop_scope="session")]

HOME = "ofevents-alone"
SETTINGS = Settings(namespace=HOME, image=IMAGE, namespaces=("alpha", "beta"))
BEYOND = "gamma"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def inside(namespace: str, manifest: Any) -> Any:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


async def install(cluster: Cluster, folder: Path) -> Path:
    """The account and its rights; a kubeconfig with a token of that account."""
    for name in (HOME, *SETTINGS.namespaces, BEYOND):
        await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made = account(SETTINGS)
    await cluster.create(made)
    for each in roles(SETTINGS):
        namespace = each["metadata"].get("namespace")
        inner = f"/namespaces/{namespace}" if namespace else ""
        path = f"{RBAC}{inner}/{each['kind'].lower()}s"
        await cluster.api.call("POST", path, each)
    path = kinds.SERVICE_ACCOUNT.path(HOME, made["metadata"]["name"], "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await cluster.api.call("POST", path, request))["status"]["token"]
    return cluster.api.kubeconfig(folder / "alone.kubeconfig", token)


@asynccontextmanager
async def started(cluster: Cluster, folder: Path, *more: str) -> AsyncIterator[Program]:
    """The installed controller at work; what it was refused fails the test."""
    config = await install(cluster, folder)
    port = free_port()
    given = [each for each in arguments(SETTINGS) if not each.startswith(("--port", "--admission"))]
    command = [*given, f"--kubeconfig={config}", f"--port={free_port()}"]
    command += [f"--admission-port={port}", f"--admission-url=https://localhost:{port}"]
    async with Program(folder, OFEVENTS, *command, *more) as program:
        yield program
        assert await program.terminate() == 0
        refused = [line for line in program.log.splitlines() if "orbidden" in line]
        assert not refused, "\n".join(refused[:5])


async def test_two_namespaces_and_nothing_else(
    cluster: Cluster, bus: NatsServer, tmp_path: Path
) -> None:
    login = {"valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "log", "namespace": "alpha"},
        "spec": {"ports": [{"port": 80}]},
    }
    ref = {"apiVersion": "v1", "kind": "Service", "name": "log"}
    knative = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "fn"}
    hook = {
        "auth": {"bearer": login},
        "expose": {"ingress": {}, "httpRoute": {"gateway": "front"}},
        "scaleOption": SCALE,
    }
    kafka = {
        "brokers": "kafka:9092",
        "topic": "in",
        "authRequired": True,
        "saslUsername": "shop",
        "saslPassword": "hunter2",
        "scaleOption": SCALE,
    }
    monitored = {"url": bus.url, "monitoring": "http://127.0.0.1:1"}
    component = {"version": "v1", "metadata": []}
    pubsub, state = ({"type": f"{kind}.redis", **component} for kind in ("pubsub", "state"))

    def subscriber(**sink: Any) -> Any:
        return [{"name": "log", "sink": sink}]

    declared = [
        resource("EventBus", "default", {"jetstream": monitored}),
        resource("EventBus", "by-dapr", {"dapr": {"pubsub": pubsub, "state": state}}),
        secret("login", token="x"),
        cron(),
        resource("EventSource", "hooks", {"eventBus": "default", "webhook": {"in": hook}}),
        resource("EventSource", "records", {"eventBus": "default", "kafka": {"in": kafka}}),
        trigger("scaled", scaleOption=SCALE),
        trigger("dapr", eventBus="by-dapr", deletionPolicy="Retain"),
        trigger("calls", subscribers=subscriber(ref=ref)),
        trigger("knative", subscribers=subscriber(ref=knative)),
        trigger("beyond", subscribers=subscriber(ref={**ref, "namespace": BEYOND})),
    ]
    far = trigger("far", "far", eventBus="everywhere")
    far["spec"]["inputs"]["tick"]["namespace"] = BEYOND
    declared.append(far)
    shared = resource("ClusterEventBus", "everywhere", {"jetstream": {"url": bus.url}})
    async with cluster.defined(*CRDS, kinds.KNATIVE_SERVICE), started(cluster, tmp_path):
        await cluster.apply(shared, service, *(inside("alpha", each) for each in declared))
        there = {"namespace": "alpha"}
        for name in ("scaled", "dapr", "calls"):
            await cluster.becomes(kinds.TRIGGER, name, "Ready", "Starting", **there, seconds=90)
        for name in ("hooks", "records"):
            await cluster.becomes(kinds.EVENT_SOURCE, name, "Ready", "Starting", **there)
        await cluster.becomes(kinds.EVENT_BUS, "default", "Ready", "Connected", **there)
        await cluster.becomes(
            kinds.CLUSTER_EVENT_BUS, "everywhere", "Ready", "Connected", namespace=""
        )
        for kind in kinds.CHILDREN:
            if kind is not kinds.SUBSCRIPTION:
                assert await cluster.all(kind, "alpha"), kind

        # A Service there cannot be found, and whether an EventSource lets itself be read not told.
        for name in ("beyond", "far"):
            told = await cluster.becomes(
                kinds.TRIGGER, name, "Stalled", "ReferenceNotFound", **there
            )  # fmt: skip
            assert f"this controller does not look at namespace {BEYOND}" in told["message"]
            assert await cluster.deployments(name, "alpha") == []

        async def events() -> bool:
            found = await cluster.all(kinds.EVENT, "alpha")
            return {"beyond", "far"} <= {each["regarding"]["name"] for each in found}

        await until(events, seconds=60, what="Events say so")
        told = await cluster.becomes(
            kinds.TRIGGER, "knative", "Stalled", "ReferenceNotFound", **there
        )  # fmt: skip
        assert "there is no Service alpha/fn" in told["message"]

        # Watched in the other one, too; in a third, nothing.
        await cluster.apply(inside("beta", cron(eventBus="everywhere")))
        await cluster.apply(inside(BEYOND, cron(eventBus="everywhere")))
        await cluster.becomes(kinds.EVENT_SOURCE, "clock", "Ready", "Starting", namespace="beta")
        assert await cluster.deployments("clock", BEYOND) == []
        assert await cluster.condition(kinds.EVENT_SOURCE, "clock", namespace=BEYOND) == {}

        # A Secret is rotated, and a Trigger goes.
        (before,) = await cluster.deployments("hooks", "alpha")
        await cluster.apply(inside("alpha", secret("login", token="y")))

        async def rolled() -> bool:
            (now,) = await cluster.deployments("hooks", "alpha")
            return bool(now["spec"]["template"] != before["spec"]["template"])

        await until(rolled, seconds=60, what="the webhook is rolled")
        await cluster.delete(kinds.TRIGGER, "calls", "alpha")

        async def gone() -> bool:
            return await cluster.get(kinds.TRIGGER, "calls", "alpha") is None

        await until(gone, seconds=60, what="the Trigger is gone")

        # Admission asks for its own namespaces alone.
        wrong = cron("wrong", cron={"tick": {"schedule": "61 * * * *"}})
        with pytest.raises(RuntimeError, match="denied the request"):
            await cluster.create(inside("beta", wrong))
        await cluster.create(inside(BEYOND, wrong))
        for name in SETTINGS.namespaces:
            for kind in (kinds.TRIGGER, kinds.EVENT_SOURCE):
                for each in await cluster.all(kind, name):
                    await cluster.delete(kind, each["metadata"]["name"], name)

        async def empty() -> bool:
            left = [
                each
                for name in SETTINGS.namespaces
                for kind in (kinds.TRIGGER, kinds.EVENT_SOURCE)
                for each in await cluster.all(kind, name)
            ]
            return not left

        await until(empty, seconds=90, what="all are gone")
    await cluster.api.call("DELETE", kinds.WEBHOOK.path(name=NAME))
    await cluster.delete(kinds.CLUSTER_EVENT_BUS, "everywhere", "")
