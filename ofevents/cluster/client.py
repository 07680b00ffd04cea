"""The Kubernetes API over HTTP: list, watch, server-side apply, delete. Objects stay JSON.

Not the generated client: its classes know no custom resources and cost 10 ms an object.
Used by the reflectors, the lease and the controller.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from ofevents.cluster.kinds import LEASE, Kind, kind_of
from ofevents.errors import ConfigError, Conflict, Disconnected, OfeventsError
from ofevents.telemetry import KUBERNETES_REQUESTS

MANAGER: Final = "ofevents"
"""The one field manager: what it no longer applies, the server removes."""
WATCH: Final = 300
"""Seconds after which the server ends a watch."""
_PAGE: Final = 500
_SILENT: Final = 30.0
_ANSWER: Final = 30.0
_CONNECT: Final = 5.0
_LONGEST: Final = 16 * 1024 * 1024
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_LEASES: Final = f"/apis/{LEASE.group}/"


class Gone(Exception):
    """410: the server does not know any more what has changed since then."""


class Refused(ConfigError):
    """The API server refuses: `status` is the HTTP status, such as 403 or 422."""

    reason = "Refused"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Logged in while in the `async with`.

    Every call raises Disconnected while the server does not answer, Refused for what it
    refuses for good, Conflict for 409.

    Attributes:
        requests: calls so far by verb, watches included.
        guard: called before each write but those of leases; what it raises, the write raises.
    """

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._file = kubeconfig
        self._context = context
        self._configuration: Any = None
        self._session: aiohttp.ClientSession | None = None
        self.requests: dict[str, int] = {}
        self.guard: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        """Log in.

        Raises:
            ConfigError: there is no cluster to log in to, or the extra `controller` is not
                installed.
        """
        try:
            from ofevents.kubernetes_login import login, trust
        except ImportError as error:
            text = "talking to a cluster needs: pip install 'ofevents[controller]'"
            raise ConfigError(text) from error
        self._configuration = await login(
            self._file, self._context, options="--kubeconfig, KUBECONFIG"
        )
        connector = aiohttp.TCPConnector(ssl=trust(self._configuration), limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def login(self) -> dict[str, Any]:
        """How it is logged in, in kopf's words (`ConnectionInfo`)."""
        configuration = self._configuration
        scheme, _, token = (
            (await configuration.auth_settings()).get("BearerToken", {}).get("value", "")
        ).rpartition(" ")
        return {
            "server": configuration.host,
            "ca_path": configuration.ssl_ca_cert,
            "insecure": not configuration.verify_ssl,
            "certificate_path": configuration.cert_file,
            "private_key_path": configuration.key_file,
            "scheme": scheme or None,
            "token": token or None,
        }

    # -- reading --------------------------------------------------------------------------

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, None when there is none."""
        try:
            found: dict[str, Any] = await self._json("GET", kind.path(namespace, name))
            return found
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def list_all(
        self, kind: Kind, namespace: str | None, query: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], str]:
        """All objects, page by page, and the resourceVersion to watch from.

        Raises:
            Gone: it took longer than the server remembers.
        """
        items: list[dict[str, Any]] = []
        more = {"limit": str(_PAGE), **query}
        while True:
            page = await self._json("GET", kind.path(namespace), query=more)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                break
            more = {**more, "continue": metadata["continue"]}
        named = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [{**named, **item} for item in items], metadata["resourceVersion"]

    async def watch(
        self, kind: Kind, namespace: str | None, version: str, query: Mapping[str, str]
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """What changes after that version, as it comes; ends when the server ends it.

        Raises:
            Gone: that is too long ago.
        """
        asked = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH),
        }
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=WATCH + _SILENT)
        async with self._asked("GET", kind.path(namespace), asked, None, "", timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST:
                    raise Disconnected(f"an object has more than {_LONGEST} bytes")
                if changes := [orjson.loads(line) for line in lines if line]:
                    for change in changes:
                        _check(change)
                    yield changes

    # -- writing --------------------------------------------------------------------------

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        kind: Kind | None = None,
        sub: str = "",
        force: bool = True,
        manager: str = MANAGER,
        strict: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply; `sub` is `status` for the status. Returns what is there now.

        `kind` is for a manifest whose kind is not in `kinds`. `strict` refuses fields that
        the server does not know, which it drops otherwise.

        Raises:
            Conflict: without `force`, another manager owns a field.
        """
        metadata = manifest["metadata"]
        path = (kind or kind_of(manifest)).path(metadata.get("namespace"), metadata["name"], sub)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        if strict:
            query["fieldValidation"] = "Strict"
        return await self._json("PATCH", path, query=query, body=manifest, media=_APPLY)

    async def patch(
        self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge `change` into the object; with metadata.resourceVersion, only into that one."""
        return await self._json(
            "PATCH",
            kind.path(namespace, name),
            query={"fieldManager": MANAGER},
            body=change,
            media=_MERGE,
        )

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A new object.

        Raises:
            Conflict: there is one of that name.
        """
        path = kind.path(manifest["metadata"].get("namespace"))
        return await self._json("POST", path, query={"fieldManager": MANAGER}, body=manifest)

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The object as a whole; its resourceVersion must be that of now.

        Raises:
            Conflict: somebody was faster.
        """
        metadata = manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._json("PUT", path, query={"fieldManager": MANAGER}, body=manifest)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Exactly that object, and what it owns in the background; gone already is fine."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._json("DELETE", kind.path(namespace, name), body=options)
        except Conflict:
            return  # Another object has the name now.
        except Refused as error:
            if error.status != 404:
                raise

    # -- the wire ---------------------------------------------------------------------------

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        media: str = "application/json",
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT)
        async with self._asked(method, path, query or {}, body, media, timeout) as answer:
            found: dict[str, Any] = orjson.loads(await answer.read())
            return found

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        media: str,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        if method != "GET" and self.guard is not None and not path.startswith(_LEASES):
            self.guard()
        self.requests[method] = self.requests.get(method, 0) + 1
        KUBERNETES_REQUESTS.labels(method).inc()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = media
        configuration = self._configuration
        where = f"{method} {path}"
        try:
            if found := (await configuration.auth_settings()).get("BearerToken"):
                headers["Authorization"] = found["value"]
            async with self._session.request(
                method,
                configuration.host + path,
                params=query,
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=timeout,
                proxy=configuration.proxy,
                server_hostname=configuration.tls_server_name or None,
            ) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.text(), where)
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
            text = str(error) or type(error).__name__
            raise Disconnected(f"the Kubernetes API: {where}: {text}") from error


def _check(change: dict[str, Any]) -> None:
    if change["type"] == "ERROR":
        status = change["object"]
        if status.get("code") == 410:
            raise Gone(status.get("message", ""))
        raise Disconnected(f"the Kubernetes API ends the watch: {status.get('message')}")


def _error(status: int, body: str, where: str) -> OfeventsError | Gone:
    try:
        text = str(orjson.loads(body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = body[:200].strip()
    if status == 410:
        return Gone(text)
    if status == 409:
        return Conflict(text)
    if status == 429 or status >= 500:
        return Disconnected(f"the Kubernetes API: {where}: {status} {text}", delay=1.0)
    return Refused(f"the Kubernetes API refuses {where}: {text}", status=status)
