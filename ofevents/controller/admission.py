"""Admission: `kubectl apply` is refused what `ofevents validate` refuses, with its text.

kopf serves the webhook, in a thread of its own, in every controller: whoever leads, it
answers. kopf does no more here: a reflector of ours sees what was deleted while a watch was
broken, and writes nothing into resources, of which kopf's handlers promise neither.

failurePolicy is Ignore: while no controller runs, resources can still be changed, and its
conditions then say what admission would have said. A webhook that must be there would keep
a cluster from being repaired.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.client import Api
from ofevents.controller.apply import holds
from ofevents.controller.certificates import Certificate, certificate
from ofevents.errors import ConfigError
from ofevents.local.rehearse import rehearse
from ofevents.resolve import Documents, FileLookUp, Problem, interpret, resolve
from ofevents.resolve.problems import Path as Place
from ofevents.resolve.problems import Position

NAME: Final = "ofevents-admission"
"""Of the Service, of the Secret with the certificate, and of the configuration."""
HANDLER: Final = "validate"
_SECONDS: Final = 5
_POLICY: Final = "Ignore"


@dataclass(frozen=True, slots=True)
class Admission:
    """Where admission is served.

    Attributes:
        namespace: of the Service `ofevents-admission` and of the Secret.
        url: the API server calls this instead of the Service, when it is not in a cluster.
        watched: the namespaces whose resources are checked; none is all.
    """

    namespace: str
    host: str = "0.0.0.0"
    port: int = 9443
    url: str | None = None
    watched: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the certificate is for."""
        return f"{NAME}.{self.namespace}.svc"


def errors(object: Mapping[str, Any]) -> list[Problem]:
    """What `ofevents validate` has against a document on its own."""
    value = {key: part for key, part in object.items() if key != "status"}
    loaded, problems = interpret(value, positions=dict.fromkeys(_places(value), Position(0, 0)))
    if loaded is None:
        return problems
    documents = Documents((loaded,), tuple(problems))
    resolution = rehearse(documents, resolve(documents, FileLookUp(documents)))
    return list(resolution.errors)


def _places(value: Any, here: Place = ()) -> Iterator[Place]:
    yield here
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _places(part, (*here, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _places(part, (*here, index))


def text(problems: list[Problem]) -> str:
    """All of them, as `ofevents validate` says them."""
    return "\n".join(str(each) for each in problems)


async def serve(api: Api, at: Admission, clock: Clock) -> None:
    """Answer until cancelled.

    Raises:
        ConfigError: the port is taken, or kopf is not installed.
    """
    made = await certificate(api, at.namespace, NAME, at.name, clock.now())
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ofevents-") as folder:
        login = await api.login()
        serving = asyncio.create_task(asyncio.to_thread(_run, at, made, Path(folder), login, stop))
        try:
            await asyncio.shield(serving)
        finally:
            stop.set()
            await asyncio.gather(serving, return_exceptions=True)


def _run(
    at: Admission, made: Certificate, folder: Path, login: Mapping[str, Any], stop: threading.Event
) -> None:
    """kopf's operator on a loop of its own; in a thread it leaves our signals alone."""
    try:
        import kopf
    except ImportError as error:
        raise ConfigError("admission needs: pip install 'ofevents[controller]'") from error

    for file, content in (("cert.pem", made.cert), ("key.pem", made.key)):
        (folder / file).touch(mode=0o600)
        (folder / file).write_text(content)
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.admission.server = kopf.WebhookServer(
        addr=at.host,
        port=at.port,
        certfile=folder / "cert.pem",
        pkeyfile=folder / "key.pem",
        cadata=made.ca.encode(),
    )

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**login)

    for kind in kinds.OWN:

        @kopf.on.validate(kind.group, kind.version, kind.plural, id=HANDLER, registry=registry)
        def validate(body: kopf.Body, **more: Any) -> None:
            if not _concerns(body, more["old"], more["new"]):
                return
            if found := errors(dict(body)):
                raise kopf.AdmissionError(text(found), code=422)

    operator = kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=True,
        # Its own would begin with the user's name, and a user of a container has none.
        identity=cast(Any, NAME),
        stop_flag=stop,
    )
    asyncio.run(operator)


def _concerns(body: Mapping[str, Any], old: Any, new: Any) -> bool:
    """Whether a change is one of what we read.

    What came in while nobody admitted must still get its finalizers changed, or it could
    never be deleted.
    """
    if body["metadata"].get("deletionTimestamp"):
        return False
    if old is None or new is None:
        return True
    read = [(one.get("spec"), (one.get("metadata") or {}).get("annotations")) for one in (old, new)]
    return bool(read[0] != read[1])


async def configure(api: Api, at: Admission, clock: Clock) -> None:
    """Have the API server ask us; by the leader alone, and only if it does not yet."""
    made = await certificate(api, at.namespace, NAME, at.name, clock.now())
    live = await api.get(kinds.WEBHOOK, "", NAME)
    hooks: list[dict[str, Any]] = (live or {}).get("webhooks") or [{}]
    manifest = configuration(at, made.ca, hooks[0].get("failurePolicy", _POLICY))
    if live is None or not holds(live, manifest):
        await api.apply(manifest)


def configuration(at: Admission, ca: str, policy: str = _POLICY) -> dict[str, Any]:
    """The ValidatingWebhookConfiguration; `policy` is its failurePolicy.

    An installation makes it too, where its failurePolicy is chosen; that one is kept.
    """
    bundle = base64.b64encode(ca.encode()).decode()
    client: dict[str, Any] = {"caBundle": bundle}
    if at.url is not None:
        client["url"] = f"{at.url}/{HANDLER}"
    else:
        client["service"] = {
            "namespace": at.namespace, "name": NAME, "port": 443, "path": f"/{HANDLER}",
        }  # fmt: skip
    resources = [kind.plural for kind in kinds.OWN]
    webhook: dict[str, Any] = {
        "name": "validate.events.openfunction.io",
        "clientConfig": client,
        "rules": [
            {
                "apiGroups": [kinds.TRIGGER.group],
                "apiVersions": [kinds.TRIGGER.version],
                "operations": ["CREATE", "UPDATE"],
                "resources": resources,
                "scope": "*",
            }
        ],
        "failurePolicy": policy,
        "sideEffects": "None",
        "timeoutSeconds": _SECONDS,
        "admissionReviewVersions": ["v1"],
    }
    if at.watched:
        # In the others, it may be somebody else's to say what is right.
        named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*at.watched]}
        webhook["namespaceSelector"] = {"matchExpressions": [named]}
    return {
        "apiVersion": kinds.WEBHOOK.api_version,
        "kind": kinds.WEBHOOK.kind,
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "ofevents"}},
        "webhooks": [webhook],
    }
