"""`ofevents install`, `status` and `uninstall` against a real kube-apiserver.

There is nobody else: what a controller manager and a controller would write, the tests
write. Each test has a namespace of its own, as a namespace never goes without them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from ofevents import cli
from ofevents.controller.admission import NAME as ADMISSION
from ofevents.errors import ConfigError
from ofevents.install.kinds import KINDS, kind_of
from ofevents.install.objects import objects
from ofevents.install.settings import LABEL, NAME, Settings
from tests.e2e.processes import OFEVENTS, Program
from tests.servers import free_port, helm, until
from tests.servers.kube_api import KubeApi

pytestmark = [
    pytest.mark.server("kubernetes"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
GUEST = "guest-token"
GROUP = "/apis/events.openfunction.io/v1alpha1"
SOURCE: dict[str, Any] = {
    "apiVersion": "events.openfunction.io/v1alpha1",
    "kind": "EventSource",
    "metadata": {"name": "shop"},
    "spec": {"eventBus": "default", "cron": {"ticks": {"schedule": "@every 1h"}}},
}


class Cluster:
    """The API server, and the verbs as somebody types them."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.file = api.kubeconfig(api.folder / "config")

    async def run(self, *arguments: str, file: Path | None = None) -> tuple[int, str]:
        """Exit code, and everything that was printed."""
        given = [*arguments, "--kubeconfig", str(file or self.file)]
        result = await asyncio.to_thread(CliRunner().invoke, cli.app, given)
        if isinstance(result.exception, ConfigError):
            return 1, f"{result.output}error: {result.exception}"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    async def done(self, *arguments: str, file: Path | None = None) -> str:
        code, text = await self.run(*arguments, file=file)
        assert code == 0, text
        return text

    async def fails(self, *arguments: str, file: Path | None = None) -> str:
        code, text = await self.run(*arguments, file=file)
        assert code == 1, text
        return text

    async def outcomes(self, *arguments: str) -> dict[str, str]:
        """Of each object of an `install` or `uninstall`, what was done with it."""
        lines = map(json.loads, (await self.done(*arguments, "-o", "json")).splitlines())
        return {
            f"{each['kind']} {each['name']}": each["outcome"] for each in lines if "kind" in each
        }

    async def status(self, namespace: str) -> tuple[int, dict[str, Any]]:
        code, text = await self.run("status", "-n", namespace, "-o", "json")
        return code, json.loads(text)

    async def there(self, namespace: str) -> set[str]:
        """`kind name` of everything that has the label of that installation."""
        found: set[str] = set()
        for kind in KINDS:
            try:
                answer = await self.api.call(
                    "GET", f"{kind.path()}?labelSelector={LABEL}%3D{namespace}"
                )
            except LookupError:
                continue  # no Prometheus operator here
            found |= {f"{kind.kind} {each['metadata']['name']}" for each in answer["items"]}
        return found

    async def established(self) -> bool:
        """Whether the API server serves every CRD."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found = (await self.api.call("GET", path))["items"]
        conditions = [(each.get("status") or {}).get("conditions") or () for each in found]
        return all(
            any((one["type"], one["status"]) == ("Established", "True") for one in each)
            for each in conditions
        )

    async def namespace(self, name: str) -> None:
        await self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def play_manager(self, namespace: str, replicas: int = 2) -> None:
        """What the controller manager writes once the Pods are up."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}"
        now = await self.api.call("GET", path)
        status = {
            "observedGeneration": now["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
        }
        await self.api.call("PATCH", f"{path}/status", {"status": status}, kind="merge-patch")

    async def play_controller(self, namespace: str) -> None:
        """What the active controller writes: its lease, and its certificate's authority."""
        spec = {"holderIdentity": "ofevents-controller-0", "leaseDurationSeconds": 15}
        lease = {"metadata": {"name": "ofevents-controller"}, "spec": spec}
        await self.api.call(
            "POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", lease
        )
        webhook = (
            f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{ADMISSION}"
        )
        bundle = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "Cg=="}]
        await self.api.call("PATCH", webhook, bundle, kind="json-patch")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("kube")
    async with KubeApi(folder, users=(f"{GUEST},guest,guest",)) as api:
        yield Cluster(api)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(server: Cluster) -> AsyncIterator[Cluster]:
    """Without any installation, before and after."""
    yield server
    for namespace in await _installations(server):
        await server.done("uninstall", "-n", namespace, "--crds", "--yes", "--timeout", "60s")
    assert await _installations(server) == set()


async def _installations(cluster: Cluster) -> set[str]:
    found: set[str] = set()
    for path in (
        "/apis/apps/v1/deployments",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ):
        answer = await cluster.api.call("GET", f"{path}?labelSelector={LABEL}")
        found |= {each["metadata"]["labels"][LABEL] for each in answer["items"]}
    return found


async def test_what_is_installed_is_shown_and_goes_again(cluster: Cluster) -> None:
    expected = {f"{each['kind']} {each['metadata']['name']}" for each in objects(Settings("whole"))}
    first = await cluster.outcomes("install", "-n", "whole", "--no-wait")
    assert first == dict.fromkeys(expected, "created")
    assert await cluster.there("whole") == expected

    code, status = await cluster.status("whole")
    states = {row["kind"]: row["state"] for row in status["objects"]}
    assert code == 1
    there_is_none = "there is no Pod of ofevents-controller yet"
    assert states["Deployment"] == f"0 of 2 replicas are available: {there_is_none}"
    assert states["ValidatingWebhookConfiguration"] == "waits for the controller's certificate"

    again = await cluster.outcomes("install", "-n", "whole", "--no-wait")
    assert again == dict.fromkeys(expected, "unchanged")

    await cluster.play_manager("whole")
    await cluster.play_controller("whole")
    await cluster.done("install", "-n", "whole", "--timeout", "60s")
    code, status = await cluster.status("whole")
    assert code == 0, status
    assert status["active"] == "ofevents-controller-0"
    text = await cluster.done("status", "-n", "whole")
    assert "2 of 2 replicas are available" in text
    assert "all is well" in text

    await cluster.api.call("POST", f"{GROUP}/namespaces/default/eventsources", SOURCE)
    text = await cluster.done("uninstall", "-n", "whole")
    assert "1 EventSource stay" in text
    assert {each.split()[0] for each in await cluster.there("whole")} <= {
        "CustomResourceDefinition",
        "Namespace",  # Terminating: nobody here removes what is in it
    }
    text = await cluster.fails("status", "-n", "whole")
    assert "not installed" in text
    assert "1 EventSource" in text

    text = await cluster.fails("uninstall", "-n", "whole", "--crds")
    assert "would remove 1 EventSource: say --yes" in text
    assert await cluster.api.call("GET", f"{GROUP}/namespaces/default/eventsources/shop")
    await cluster.done("uninstall", "-n", "whole", "--crds", "--yes")
    with pytest.raises(LookupError):
        await cluster.api.call("GET", f"{GROUP}/namespaces/default/eventsources/shop")


async def test_a_missing_object_is_named(cluster: Cluster) -> None:
    await cluster.done("install", "-n", "hole", "--no-wait")
    await cluster.api.call("DELETE", f"/api/v1/namespaces/hole/services/{NAME}")
    _, status = await cluster.status("hole")
    missing = [row["kind"] for row in status["objects"] if row["state"] == "missing"]
    assert missing == ["Service"], missing


async def test_an_option_that_is_taken_back_takes_its_object_along(cluster: Cluster) -> None:
    added = await cluster.outcomes("install", "-n", "option", "--no-wait", "--dashboard")
    assert added["ConfigMap ofevents-dashboard"] == "created"
    # That changes a CRD too.
    await until(cluster.established, seconds=60, what="the CRDs are established")
    back = await cluster.outcomes("install", "-n", "option", "--no-wait", "--no-admission")
    changed = {name: outcome for name, outcome in back.items() if outcome != "unchanged"}
    assert changed == {
        "ConfigMap ofevents-dashboard": "removed",
        f"Deployment {NAME}": "changed",
        f"Service {ADMISSION}": "removed",
        f"ValidatingWebhookConfiguration {ADMISSION}": "removed",
    }


async def test_the_wait_has_an_end_that_says_why(cluster: Cluster) -> None:
    await cluster.done("install", "-n", "slow", "--no-wait")
    # Or that would be said.
    await until(cluster.established, seconds=60, what="the CRDs are established")
    text = await cluster.fails("install", "-n", "slow", "--timeout", "300ms")
    assert "not done within 0.3 s: 0 of 2 replicas of the controller are available" in text
    # As a ReplicaSet would make it: the namespace lets in what the Deployment asks for.
    path = f"/apis/apps/v1/namespaces/slow/deployments/{NAME}"
    template = (await cluster.api.call("GET", path))["spec"]["template"]
    template["metadata"]["name"] = "stuck"
    made = await cluster.api.call("POST", "/api/v1/namespaces/slow/pods", template)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    status = {
        "containerStatuses": [
            {
                "name": "controller",
                "image": "x",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": waiting,
            }
        ]
    }
    path = f"/api/v1/namespaces/slow/pods/{made['metadata']['name']}/status"
    await cluster.api.call("PATCH", path, {"status": status}, kind="merge-patch")
    text = await cluster.fails("install", "-n", "slow", "--timeout", "300ms")
    assert "stuck: ImagePullBackOff: no such image" in text


async def test_the_controllers_rights_end_at_its_namespaces(cluster: Cluster) -> None:
    text = await cluster.fails("install", "-n", "scoped", "--watch-namespace", "bank", "--no-wait")
    assert "there is no namespace bank to look after" in text
    assert await cluster.there("scoped") == set()
    await cluster.namespace("bank")
    await cluster.done("install", "-n", "scoped", "--watch-namespace", "bank", "--no-wait")

    async def may(verb: str, resource: str, namespace: str) -> bool:
        review = {
            "spec": {
                "user": f"system:serviceaccount:scoped:{NAME}",
                "resourceAttributes": {
                    "verb": verb,
                    "resource": resource,
                    "namespace": namespace,
                    "group": "" if resource == "secrets" else "coordination.k8s.io",
                },
            }
        }
        answer = await cluster.api.call(
            "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review
        )
        return bool(answer["status"]["allowed"])

    # The API server learns of new rights as everybody does, by a watch.
    for right in (("list", "secrets", "bank"), ("create", "leases", "scoped")):
        await until(partial(may, *right), seconds=60, what=f"it may {right}")
    assert not await may("list", "secrets", "default")
    assert not await may("list", "secrets", "scoped")
    assert not await may("create", "leases", "bank")


async def test_what_somebody_else_made_is_not_touched(cluster: Cluster) -> None:
    foreign = objects(Settings("strange"))[1]
    plain = {**foreign, "metadata": {"name": foreign["metadata"]["name"]}}
    await cluster.api.call("POST", kind_of(foreign).path(), plain)
    text = await cluster.fails("install", "-n", "strange", "--no-wait")
    assert "is there already and is not of this installation" in text
    assert await cluster.there("strange") == set()
    taken = await cluster.outcomes("install", "-n", "strange", "--no-wait", "--take-over")
    assert taken[f"CustomResourceDefinition {plain['metadata']['name']}"] == "changed"

    text = await cluster.fails("install", "-n", "second", "--no-wait")
    assert "already installed in namespace strange" in text
    assert "--namespace strange" in await cluster.fails("status", "-n", "second")


async def test_a_namespace_that_somebody_else_uses_stays(cluster: Cluster) -> None:
    await cluster.done("install", "-n", "shared", "--no-wait")
    claim = {
        "metadata": {"name": "theirs"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    await cluster.api.call("POST", "/api/v1/namespaces/shared/persistentvolumeclaims", claim)
    gone = await cluster.outcomes("uninstall", "-n", "shared")
    assert gone["Namespace shared"] == "left alone"
    assert gone[f"Deployment {NAME}"] == "removed"
    await cluster.namespace("older")
    made = await cluster.outcomes("install", "-n", "older", "--no-wait")
    assert made["Namespace older"] == "left alone"
    assert "Namespace older" not in await cluster.outcomes("uninstall", "-n", "older")


async def test_a_finalizer_that_nobody_takes_away_is_told(cluster: Cluster) -> None:
    await cluster.done("install", "-n", "held", "--no-wait")
    await until(cluster.established, seconds=60, what="the CRDs are established")
    name = {"name": "shop", "finalizers": ["events.openfunction.io/bus"]}
    sources = f"{GROUP}/namespaces/default/eventsources"
    await cluster.api.call("POST", sources, {**SOURCE, "metadata": name})
    rehearsed = await cluster.outcomes("uninstall", "-n", "held", "--crds", "--dry-run")
    assert set(rehearsed.values()) == {"removed"}
    text = await cluster.fails("uninstall", "-n", "held", "--crds", "--yes", "--timeout", "300ms")
    assert "not done within 0.3 s: 1 EventSource still there" in text
    assert "finalizers" in text
    assert f"Deployment {NAME}" in await cluster.there("held")
    change = {"metadata": {"finalizers": None}}
    await cluster.api.call("PATCH", f"{sources}/shop", change, kind="merge-patch")
    await cluster.done("uninstall", "-n", "held", "--crds", "--yes")


async def test_every_mistake_is_a_sentence(cluster: Cluster, tmp_path: Path) -> None:
    text = await cluster.fails("install", "-n", "more", "--service-monitor")
    assert "there is no PodMonitor" in text or "there is no ServiceMonitor" in text
    guest = cluster.api.kubeconfig(tmp_path / "guest", GUEST)
    text = await cluster.fails("install", "-n", "more", file=guest)
    assert "you may not get and patch" in text
    assert "clusterroles" in text
    assert "ofevents install --dry-run" in text
    assert "refuses" in await cluster.fails("status", file=guest)
    stranger = cluster.api.kubeconfig(tmp_path / "stranger", "no-token")
    assert "Unauthorized" in await cluster.fails("status", file=stranger)
    assert "not installed in namespace more" in await cluster.fails("uninstall", "-n", "more")
    assert await cluster.there("more") == set()


async def test_a_cluster_that_is_not_there_is_a_sentence(cluster: Cluster) -> None:
    text = cluster.api.kubeconfig(cluster.api.folder / "wrong").read_text()
    file = cluster.api.folder / "gone"
    file.write_text(text.replace(str(cluster.api.port), str(free_port())))
    for command in ("install", "uninstall"):
        assert "is the cluster up" in await cluster.fails(command, "--context", "test", file=file)
    program = await asyncio.create_subprocess_exec(
        OFEVENTS,
        "status",
        "--kubeconfig",
        file,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await program.communicate()
    assert program.returncode == 1
    assert b"is the cluster up" in errors
    assert b"Traceback" not in errors


async def test_what_helm_has_installed_is_helms(cluster: Cluster, tmp_path: Path) -> None:
    async def run(*arguments: str | Path) -> str:
        given = (*arguments, "--kubeconfig", cluster.file, "--namespace", "chart")
        return await asyncio.to_thread(helm.run, *given, home=tmp_path)

    chart = Path(__file__).parents[2] / "deploy" / "helm" / "ofevents"
    await run("install", "events", chart, "--create-namespace")
    expected = {f"{each['kind']} {each['metadata']['name']}" for each in objects(Settings("chart"))}
    assert await cluster.there("chart") == expected - {"Namespace chart"}
    _, status = await cluster.status("chart")
    assert [row["kind"] for row in status["objects"] if row["state"] == "missing"] == []
    for verb in ("install", "uninstall"):
        text = await cluster.fails(verb, "-n", "chart")
        assert "belongs to the Helm release events" in text
    await run("uninstall", "events")
    kept = {each.split()[0] for each in await cluster.there("chart")}
    assert kept == {"CustomResourceDefinition"}


async def test_the_installed_account_is_all_that_the_controller_needs(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Started as the Deployment starts it, with its account's token, in `inside` only."""
    for namespace in ("inside", "outside"):
        await cluster.namespace(namespace)
    await cluster.done("install", "-n", "account", "--watch-namespace", "inside", "--no-wait")
    await until(cluster.established, seconds=60, what="the CRDs are established")
    account = f"/api/v1/namespaces/account/serviceaccounts/{NAME}/token"
    token = (await cluster.api.call("POST", account, {"spec": {"expirationSeconds": 600}}))[
        "status"
    ]
    file = cluster.api.kubeconfig(tmp_path / "account", token["token"])
    path = f"/apis/apps/v1/namespaces/account/deployments/{NAME}"
    pod = (await cluster.api.call("GET", path))["spec"]["template"]["spec"]
    skipped = ("--host=", "--port=", "--admission-port=")  # of the Pod, not of this machine
    arguments = [one for one in pod["containers"][0]["args"] if not one.startswith(skipped)]
    cron = SOURCE["spec"]["cron"]
    source = {**SOURCE, "spec": {"cron": cron, "sink": {"uri": "http://shop.inside.svc/"}}}

    async def workers(namespace: str) -> int:
        listed = await cluster.api.call("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments")
        return len(listed["items"])

    async def seen() -> bool:
        return await workers("inside") == 1

    async with Program(tmp_path, OFEVENTS, *arguments, "--kubeconfig", file, POD_NAME="one") as run:
        for namespace in ("outside", "inside"):
            await cluster.api.call("POST", f"{GROUP}/namespaces/{namespace}/eventsources", source)
        await until(seen, seconds=90, what="the worker is there")
        _, status = await cluster.status("account")
        assert status["active"].startswith("one")
        assert "forbidden" not in run.log, run.log
        text = await cluster.done("uninstall", "-n", "account", "--crds", "--yes")
        assert "2 EventSources" in text
    assert await workers("outside") == 0
