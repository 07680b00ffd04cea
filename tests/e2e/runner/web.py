"""A small web server in a Deployment, as the tests of the runner itself want it."""

from __future__ import annotations

import base64
import sys
from typing import Any

from tests.servers.kube_pod import Image
from tests.servers.kube_runner import KubeRunner

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
WELL = {"state": "well", "live": "yes"}
"""What its probes are answered with, as the ConfigMap `settings`."""
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str, *, image: str = "web", replicas: int = 1, more: str = "") -> Any:
    """Two ConfigMap keys and a Secret's at `/files`, a token and the Pod's name in the env."""
    labels = {"app": name}
    # A process that waits for its turn answers later than within the default of 1 s.
    probe = {
        "httpGet": {"path": "/state", "port": "web"},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
    }
    live = {**probe, "httpGet": {"path": "/live", "port": "web"}}
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
        "livenessProbe": {**live, "failureThreshold": 2},
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

    await runner.until(whole, f"{name} is rolled out", 60)


async def gone(runner: KubeRunner, name: str) -> None:
    async def none() -> bool:
        return not await pods(runner, name)

    await runner.until(none, f"no Pod of {name} is left", 60)
