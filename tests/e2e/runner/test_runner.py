"""What the process runner must be able to do, before anything of ours is tried on it."""

from __future__ import annotations

import base64
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.e2e.processes import get
from tests.servers import until
from tests.servers.kube_pod import Image
from tests.servers.kube_runner import KubeRunner

pytestmark = [
    pytest.mark.server("kube"),
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

PORT = 8080
WEB = """
import http.server, os, signal, sys

class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip("/")
        if path == "env":
            text = os.environ["TOKEN"] + " " + os.environ["NAME"]
        elif os.path.exists(os.path.join(sys.argv[2], path)):
            text = open(os.path.join(sys.argv[2], path)).read()
        else:
            text = ""
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass

if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer((sys.argv[1], 8080), Web).serve_forever()
"""
IMAGES = {
    "web": Image((sys.executable, "-c", WEB)),
    "ends": Image((sys.executable, "-c", "raise SystemExit(3)")),
}
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeRunner]:
    before = set(psutil.Process().children())
    async with KubeRunner(tmp_path_factory.mktemp("kube"), IMAGES, pause=0.5) as one:
        yield one
        assert one.pids, "there is nothing that could be left"
    assert set(psutil.Process().children()) == before


def deployment(name: str, *, image: str = "web", replicas: int = 1, more: str = "") -> Any:
    """Two ConfigMap keys and a Secret's at `/files`, a token and the Pod's name in the env."""
    labels = {"app": name}
    probe = {"httpGet": {"path": "/state", "port": "web"}, "periodSeconds": 1}
    token = {"secretKeyRef": {"name": "login", "key": "token"}}
    container = {
        "name": "web",
        "image": image,
        "args": ["0.0.0.0", "/files", *filter(None, [more])],
        "ports": [{"name": "web", "containerPort": PORT}],
        "env": [
            {"name": "TOKEN", "valueFrom": token},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": probe,
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }
    secret = {"name": "login", "items": [{"key": "token", "path": "login/token"}]}
    sources = [{"configMap": {"name": "settings"}}, {"secret": secret}]
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1 if more else 20,
        "containers": [container],
        "volumes": [{"name": "files", "projected": {"sources": sources}}],
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


async def put(runner: KubeRunner, plural: str, name: str, data: dict[str, str]) -> None:
    """A ConfigMap or Secret, new or changed."""
    path = f"/api/v1/namespaces/default/{plural}/{name}?fieldManager=test&force=true"
    kind = {"configmaps": "ConfigMap", "secrets": "Secret"}[plural]
    if kind == "Secret":
        data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data}
    await runner.call("PATCH", path, manifest, kind="apply-patch")


async def pods(runner: KubeRunner, name: str) -> list[Any]:
    found = await runner.call("GET", f"/api/v1/namespaces/default/pods?labelSelector=app%3D{name}")
    return list(found["items"])


async def rolled(runner: KubeRunner, name: str) -> None:
    """Wait until every Pod is of the newest template and ready."""

    async def whole() -> bool:
        found = await runner.call("GET", f"{DEPLOYMENTS}/{name}")
        status, wanted = found["status"], found["spec"]["replicas"]
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == wanted
            and status.get("availableReplicas", 0) == wanted
            and status.get("replicas", 0) == wanted
        )

    await runner.until(whole, f"{name} is rolled out", 30)


async def gone(runner: KubeRunner, name: str) -> None:
    async def none() -> bool:
        return not await pods(runner, name)

    await runner.until(none, f"no Pod of {name} is left", 30)


async def test_pods_run_with_addresses_files_and_variables(runner: KubeRunner) -> None:
    await runner.call("POST", DEPLOYMENTS, deployment("web", replicas=2))
    path = {"state": "well"}

    async def waits() -> bool:
        found = await pods(runner, "web")
        states = [one["status"].get("containerStatuses", [{}])[0].get("state") for one in found]
        messages = [one["waiting"]["message"] for one in states if one and "waiting" in one]
        return len(messages) == 2 and all("not found" in each for each in messages)

    await runner.until(waits, "it says what is missing", 20)
    await put(runner, "configmaps", "settings", path)
    await put(runner, "secrets", "login", {"token": "first"})
    await rolled(runner, "web")

    found = runner.pods("default", app="web")
    assert len({pod.address for pod in found.values()}) == 2
    for name, pod in found.items():
        base = f"http://{pod.address}:{PORT}"
        assert await get(f"{base}/env") == (200, f"first {name}")
        assert await get(f"{base}/login/token") == (200, "first")

    # A change of a Secret is in the files of the Pods that run, but not in their environment.
    await put(runner, "secrets", "login", {"token": "second"})
    (name, pod), *_ = found.items()
    base, pid = f"http://{pod.address}:{PORT}", pod.pid

    async def rotated() -> bool:
        return await get(f"{base}/login/token") == (200, "second")

    await runner.until(rotated, "the file has the new token", 20)
    assert await get(f"{base}/env") == (200, f"first {name}")
    assert pod.pid == pid

    # Not ready is taken back when the probe is answered again, and ends nothing.
    async def ready(count: int) -> bool:
        status = (await runner.call("GET", f"{DEPLOYMENTS}/web"))["status"]
        return bool(status.get("readyReplicas", 0) == count)

    await put(runner, "configmaps", "settings", {"other": "x"})
    await runner.until(lambda: ready(0), "no Pod is ready", 20)
    await put(runner, "configmaps", "settings", path)
    await runner.until(lambda: ready(2), "both are ready", 20)
    assert pod.pid == pid


async def test_a_killed_process_is_started_again(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", {"state": "well"})
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("killed"))
    await rolled(runner, "killed")
    ((name, pod),) = runner.pods("default", app="killed").items()
    assert pod.pid is not None
    os.kill(pod.pid, signal.SIGKILL)

    async def told() -> bool:
        (one,) = await pods(runner, "killed")
        (status,) = one["status"]["containerStatuses"]
        ended = status["lastState"].get("terminated", {})
        return (one["metadata"]["name"], status["restartCount"], ended.get("exitCode"),
                status["ready"]) == (name, 1, 137, True)  # fmt: skip

    await runner.until(told, "it runs again", 20)


async def test_what_ends_again_and_again_is_backed_off(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", {"state": "well"})
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("ends", image="ends"))

    async def backed_off() -> bool:
        for one in await pods(runner, "ends"):
            for status in one["status"].get("containerStatuses", ()):
                waits = status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                if waits and status["restartCount"] >= 3:
                    assert status["lastState"]["terminated"]["exitCode"] == 3
                    return True
        return False

    await runner.until(backed_off, "it is backed off", 20)
    await runner.call("DELETE", f"{DEPLOYMENTS}/ends")
    await gone(runner, "ends")


async def test_a_roll_out_has_no_gap_and_what_goes_has_its_time(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", {"state": "well"})
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("rolls", more="deaf"))
    await rolled(runner, "rolls")
    ((_, old),) = runner.pods("default", app="rolls").items()
    process = psutil.Process(old.pid)
    change = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
    await runner.call("PATCH", f"{DEPLOYMENTS}/rolls", change, kind="merge-patch")

    # It is deaf to SIGTERM, and is ended after its grace period of a second.
    async def another() -> bool:
        running = [pod for pod in runner.pods("default", app="rolls").values() if pod is not old]
        served = [await get(f"http://{pod.address}:{PORT}/state") for pod in (old, *running)]
        assert (200, "well") in served, "nobody answered"
        return bool(running) and not process.is_running()

    await until(another, seconds=30, what="the new one has taken over")
    await rolled(runner, "rolls")
    await runner.call("DELETE", f"{DEPLOYMENTS}/rolls")
    await gone(runner, "rolls")


async def test_the_runner_outlives_the_api_server(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", {"state": "well"})
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("lives"))
    await rolled(runner, "lives")
    ((_, pod),) = runner.pods("default", app="lives").items()
    pid = pod.pid
    await runner.end("controller-manager")
    await runner.kill_api()
    assert pod.pid == pid
    await runner.start_api()
    runner.start_controllers()
    await runner.call("DELETE", f"{DEPLOYMENTS}/lives")
    await gone(runner, "lives")
    assert pod.pid is None
