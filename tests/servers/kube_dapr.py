"""Dapr on the test cluster: its CRDs, and an injector that puts a real daprd into Pods.

    async with Injector(node, namespace):
        ...                                # Pods of that namespace that ask for it have one

Dapr's control plane is not there. What its injector does to a Pod with the annotation
`dapr.io/enabled` is done by an admission webhook of the test: the container `daprd`, with
the flags that Dapr 1.14 makes of the other annotations. What its operator gives a daprd,
the Components of the namespace whose scopes name the app with their Secrets filled in, is
there as files from the Pod's beginning; daprd runs without mTLS, in the mode `standalone`.
"""

from __future__ import annotations

import base64
import json
import ssl
from types import TracebackType
from typing import Any, Final, Self

import trustme
import yaml
from aiohttp import web

from tests.servers import HOST, free_port
from tests.servers.daprd import DAPRD
from tests.servers.kube_image import pack
from tests.servers.kube_node import KubeNode

IMAGE: Final = "localhost/daprd:1"
_FOLDER: Final = "/dapr"
_HTTP, _GRPC, _INTERNAL, _PUBLIC = 3500, 50001, 50002, 3501
_RESOURCES: Final = {
    "components": "v1alpha1",
    "resiliencies": "v1alpha1",
    "subscriptions": "v2alpha1",
}
_FLAGS: Final = {
    "app-port": "--app-port",
    "metrics-port": "--metrics-port",
    "app-channel-address": "--app-channel-address",
    "graceful-shutdown-seconds": "--dapr-graceful-shutdown-seconds",
}


def flags(asked: dict[str, str]) -> list[str]:
    """daprd's, of a Pod's annotations without `dapr.io/`; the defaults are the injector's."""
    made = [
        *("--mode", "standalone", "--resources-path", _FOLDER, "--enable-metrics"),
        *("--dapr-http-port", str(_HTTP), "--dapr-grpc-port", str(_GRPC)),
        *("--dapr-internal-grpc-port", str(_INTERNAL), "--dapr-public-port", str(_PUBLIC)),
        *("--dapr-listen-addresses", asked.get("sidecar-listen-addresses", "[::1],127.0.0.1")),
        *("--app-id", asked["app-id"], "--app-protocol", asked.get("app-protocol", "http")),
        *("--log-level", asked.get("log-level", "info")),
    ]
    for name, flag in _FLAGS.items():
        if name in asked:
            made += [flag, asked[name]]
    if asked.get("log-as-json") == "true":
        made.append("--log-as-json")
    if asked.get("enable-app-health-check") == "true":
        made += ["--enable-app-health-check", "--app-health-check-path", "/healthz"]
        made += ["--app-health-probe-interval", asked.get("app-health-probe-interval", "5")]
        made += ["--app-health-probe-timeout", "500", "--app-health-threshold", "3"]
    return made


class Injector:
    """See the module."""

    def __init__(self, node: KubeNode, namespace: str) -> None:
        self._node = node
        self._namespace = namespace
        self._port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def _name(self) -> str:
        return f"dapr-{self._namespace}"

    async def __aenter__(self) -> Self:
        """Raises ServerMissing when daprd is not built."""
        program, crds = DAPRD.find("daprd"), DAPRD.find("crds")
        await self._node.load_image(pack(program, IMAGE, self._node.folder / "daprd.tar"))
        await self._node.kubectl("apply", "--server-side", "-f", str(crds))
        for each in _RESOURCES:
            crd = f"customresourcedefinition/{each}.dapr.io"
            await self._node.kubectl("wait", "--for=condition=Established", crd, "--timeout=30s")
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(HOST).configure_cert(context)
        application = web.Application()
        application.router.add_post("/", self._review)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port, ssl_context=context).start()
        await self._node.apply(self._webhook(authority.cert_pem.bytes()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._node.kubectl("delete", "mutatingwebhookconfiguration", self._name)
        if self._runner is not None:
            await self._runner.cleanup()

    def _webhook(self, authority: bytes) -> dict[str, Any]:
        own = {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}}
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self._name},
            "webhooks": [
                {
                    "name": "sidecar-injector.dapr.io",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "NoneOnDryRun",
                    "failurePolicy": "Fail",
                    "namespaceSelector": own,
                    "rules": [{**rule, "operations": ["CREATE"]}],
                    "clientConfig": {
                        "url": f"https://{HOST}:{self._port}/",
                        "caBundle": base64.b64encode(authority).decode(),
                    },
                }
            ],
        }

    async def _review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": True}
        if changes := await self._changes(asked["object"]):
            answer["patchType"] = "JSONPatch"
            answer["patch"] = base64.b64encode(json.dumps(changes).encode()).decode()
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return web.json_response({**review, "response": answer})

    async def _changes(self, pod: dict[str, Any]) -> list[dict[str, Any]]:
        """The JSON patch of a Pod; nothing for one that does not ask for a daprd."""
        asked = {
            name.removeprefix("dapr.io/"): value
            for name, value in (pod["metadata"].get("annotations") or {}).items()
            if name.startswith("dapr.io/")
        }
        if asked.get("enabled") != "true":
            return []
        files = f"daprd-{asked['app-id']}"
        await self._node.apply(await self._files(files, asked["app-id"]))
        told = [
            {"name": "DAPR_HTTP_PORT", "value": str(_HTTP)},
            {"name": "DAPR_GRPC_PORT", "value": str(_GRPC)},
            {"name": "APP_PROTOCOL", "value": asked.get("app-protocol", "http")},
        ]
        changes = []
        for index, container in enumerate(pod["spec"]["containers"]):
            own = container.get("env") or []
            names = {each["name"] for each in own}
            env = [*own, *(each for each in told if each["name"] not in names)]
            changes.append(_add(f"/spec/containers/{index}/env", env))
        volumes = pod["spec"].get("volumes") or []
        volume = {"name": "daprd", "secret": {"secretName": files}}
        changes.append(_add("/spec/volumes", [*volumes, volume]))
        changes.append(_add("/spec/containers/-", _container(asked, self._namespace)))
        return changes

    async def _files(self, name: str, app: str) -> dict[str, Any]:
        """A Secret with what the operator would give that app."""
        found = {}
        for plural, version in _RESOURCES.items():
            path = f"/apis/dapr.io/{version}/namespaces/{self._namespace}/{plural}"
            for each in (await self._node.call("GET", path))["items"]:
                if app in each.get("scopes", ()):
                    file = f"{each['kind']}-{each['metadata']['name']}.yaml".lower()
                    found[file] = yaml.safe_dump(await self._filled(each))
        metadata = {"name": name, "namespace": self._namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": found}

    async def _filled(self, resource: dict[str, Any]) -> dict[str, Any]:
        """As a file: by name only, credentials by value."""
        metadata = {"name": resource["metadata"]["name"], "namespace": self._namespace}
        made = {**resource, "metadata": metadata}
        made.pop("auth", None)
        settings = made["spec"].get("metadata") or () if made["kind"] == "Component" else ()
        for setting in settings:
            if (ref := setting.pop("secretKeyRef", None)) and ref["name"]:
                path = f"/api/v1/namespaces/{self._namespace}/secrets/{ref['name']}"
                held = (await self._node.call("GET", path))["data"][ref["key"]]
                setting["value"] = base64.b64decode(held).decode()
        return made


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _container(asked: dict[str, str], namespace: str) -> dict[str, Any]:
    probe = {
        "httpGet": {"path": "/v1.0/healthz", "port": _PUBLIC},
        "initialDelaySeconds": 3,
        "timeoutSeconds": 3,
        "periodSeconds": 6,
        "failureThreshold": 3,
    }
    return {
        "name": "daprd",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": flags(asked),
        "env": [{"name": "NAMESPACE", "value": namespace}],
        "ports": [{"containerPort": _HTTP}, {"containerPort": _GRPC}],
        "livenessProbe": probe,
        "readinessProbe": probe,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "daprd", "mountPath": _FOLDER, "readOnly": True}],
    }
