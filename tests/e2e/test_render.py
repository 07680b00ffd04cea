"""What is rendered, judged by a real API server with strict field validation.

KEDA's, Dapr's and the Gateway API's objects are judged too where their CRDs are in Go's module
cache; elsewhere only Kubernetes' own are.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from ofevents.api.eventsource import PodTemplate
from ofevents.api.meta import ScaleOption
from ofevents.api.webhook import Expose, HttpRoute, Ingress
from ofevents.cluster.kinds import kind_of
from ofevents.controller.render import Workload, children
from tests.servers import until
from tests.servers.kube_api import KubeApi
from tests.unit.controller.render.samples import (
    DAPR,
    OWNER,
    PLATFORM,
    kafka,
    source,
    trigger,
    used,
    webhook,
)

pytestmark = [pytest.mark.server("kube"), pytest.mark.timeout(300)]

MODULES = Path(os.environ.get("GOMODCACHE") or Path.home() / "go/pkg/mod")
CRDS = sorted(
    {
        each.name: each
        for pattern in (
            "github.com/kedacore/keda/v2@*/config/crd/bases/keda.sh_scaledobjects.yaml",
            "github.com/kedacore/keda/v2@*/config/crd/bases/keda.sh_triggerauthentications.yaml",
            "github.com/dapr/dapr@*/charts/dapr/crds/components.yaml",
            "github.com/dapr/dapr@*/charts/dapr/crds/resiliency.yaml",
            "github.com/dapr/dapr@*/charts/dapr/crds/subscription.yaml",
            "sigs.k8s.io/gateway-api@*/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        )
        for each in MODULES.glob(pattern)
    }.values()
)
CORE = {
    "Secret",
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "Ingress",
}
SCALE = ScaleOption(min_replica_count=2, max_replica_count=5, cooldown_period=30)
EXPOSE = Expose(
    ingress=Ingress(
        class_name="nginx", host="*.shop.example", tls_secret="hooks", annotations={"a": "b"}
    ),
    http_route=HttpRoute(gateway="infra/front", host="hooks.shop.example"),
)
TEMPLATE = PodTemplate(
    labels={"team": "shop"},
    annotations={"note": "x"},
    resources={"limits": {"memory": "1Gi"}},
    node_selector={"disk": "ssd"},
    tolerations=[{"key": "gpu", "operator": "Exists"}],
    affinity={"podAntiAffinity": {}},
    topology_spread_constraints=[
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    service_account_name="shop",
    image_pull_secrets=[{"name": "registry"}],
    priority_class_name="high",
)


def workloads() -> list[Workload]:
    login = {"authRequired": True, "saslUsername": "shop", "saslPassword": "hunter2", "tls": {}}
    redis = {"redisHost": "redis:6379", "stream": "orders", "redisPassword": "hunter2"}
    return [
        Workload(kafka(**login), TEMPLATE, SCALE, used(("kafka", "pass"), ("other", "pass"))),
        Workload(source("redis", spec=redis), None, SCALE),
        Workload(source("rabbitmq", spec={"url": "amqp://u:p@r", "queue": "q"}), None, SCALE),
        Workload(source(bus=None)),
        Workload(webhook(), expose=EXPOSE),
        Workload(trigger("scaled"), TEMPLATE, SCALE),
        Workload(trigger("dapr", bus=DAPR), None, SCALE),
        Workload(trigger("apart", bus=DAPR, dapr_mode="standalone")),
    ]


async def test_the_api_server_takes_every_child_as_it_is(tmp_path: Path) -> None:
    manifests = children(OWNER, workloads(), PLATFORM).manifests
    async with KubeApi(tmp_path) as api:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        await api.call("POST", "/api/v1/namespaces", namespace)
        judged = set(CORE)
        for file in CRDS:
            crd = yaml.safe_load(file.read_text())
            crd["spec"].pop("conversion", None)  # nobody is there to convert
            judged.add(crd["spec"]["names"]["kind"])
            await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)

        async def served(manifest: Any) -> bool:
            try:
                await api.call("GET", kind_of(manifest).path("shop"))
            except LookupError:
                return False
            return True

        taken, refused = set(), {}
        for manifest in manifests:
            kind = manifest["kind"]
            if kind not in judged:
                continue
            await until(partial(served, manifest), seconds=60, what=f"{kind} is served")
            path = kind_of(manifest).path("shop", manifest["metadata"]["name"])
            query = "fieldManager=ofevents&fieldValidation=Strict&dryRun=All"
            try:
                await api.call("PATCH", f"{path}?{query}", manifest, kind="apply-patch")
            except RuntimeError as error:
                refused[kind, manifest["metadata"]["name"]] = str(error)
            taken.add(kind)
        assert not refused, refused
        assert judged <= taken | {"Subscription", "Resiliency"}
        # A field that does not exist is refused: the judge is strict.
        wrong = next(each for each in manifests if each["kind"] == "Deployment")
        wrong = {**wrong, "spec": {**wrong["spec"], "replica": 1}}
        path = kind_of(wrong).path("shop", wrong["metadata"]["name"])
        with pytest.raises(RuntimeError, match="replica"):
            await api.call("PATCH", f"{path}?{query}", wrong, kind="apply-patch")
