"""The Kubernetes API as the `kubernetes` source needs it: find a kind, list it, watch it.

Objects stay JSON: the client's own classes know no custom resources, and drop fields that
are newer than they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from ofevents.api.platform import KubernetesSpec
from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.kubernetes_login import login, trust

WATCH: Final = 120
"""Seconds after which the server ends a watch, and tells its bookmark before."""
PAGE: Final = 100
"""Objects of one page of a list."""
_SILENT: Final = 20.0
"""Seconds without the end of a watch that is due: the server is not there any more."""
_ANSWER: Final = 30.0
_CONNECT: Final = 5.0
_LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a watch's line at most; an object has about 1.5 MiB at most."""


class Gone(Exception):
    """410: the server does not know any more what has changed since then."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API serves it: `path` lists it in every namespace."""

    path: str
    name: str
    namespaced: bool

    def within(self, namespace: str | None) -> str:
        """The path of its list in a namespace; None is all."""
        if namespace is None:
            return f"{self.path}/{self.name}"
        return f"{self.path}/namespaces/{namespace}/{self.name}"


class Api:
    """Logged in while in the `async with`.

    Attributes:
        where: its address, for people.
    """

    def __init__(self, spec: KubernetesSpec, path: str) -> None:
        self._spec = spec
        self._path = path
        self._configuration: Any = None
        self._session: aiohttp.ClientSession | None = None
        self.where = "the Kubernetes API"

    async def __aenter__(self) -> Self:
        """Read how to log in.

        Raises:
            ConfigError: neither in a cluster nor with a kubeconfig.
        """
        configuration = await login(path=self._path)
        self._configuration = configuration
        self.where = configuration.host
        # Not the client's own session: that one looks for a .netrc before each call.
        connector = aiohttp.TCPConnector(ssl=trust(configuration))
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

    # -- asking ---------------------------------------------------------------------

    async def find(self) -> Resource:
        """The kind of the spec.

        Raises:
            Disconnected: the API does not have it (yet), or does not answer.
        """
        group = self._spec.api_version
        path = f"/apis/{group}" if "/" in group else f"/api/{group}"
        for found in (await self._get(path, f"the kinds of {group}"))["resources"]:
            if found["kind"] == self._spec.kind and "/" not in found["name"]:
                return Resource(path, found["name"], found["namespaced"])
        raise Disconnected(f"{self.where} has no kind {self._spec.kind} in {group}: install it")

    async def page(self, path: str, *, limit: int, after: str = "") -> Any:
        """A page of the objects, beginning `after` what the last page said.

        Raises:
            Gone: the list is too old to go on with.
        """
        query = {"limit": str(limit), **self._selectors()}
        if after:
            query["continue"] = after
        return await self._get(path, "list", query)

    def _selectors(self) -> dict[str, str]:
        found = {
            "labelSelector": self._spec.label_selector,
            "fieldSelector": self._spec.field_selector,
        }
        return {name: text for name, text in found.items() if text}

    async def _get(self, path: str, what: str, query: Mapping[str, str] | None = None) -> Any:
        timeout = aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT)
        async with self._asked(path, query or {}, timeout, what) as answer:
            return orjson.loads(await answer.read())

    async def watch(self, path: str, version: str) -> AsyncGenerator[list[dict[str, Any]], None]:
        """What changes after that version, as it comes; ends when the server ends it.

        Raises:
            Gone: that is too long ago.
            Disconnected: the connection is lost.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH),
            **self._selectors(),
        }
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=WATCH + _SILENT)
        async with self._asked(path, query, timeout, "watch") as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST:
                    raise Disconnected(f"{self.where}: an object has more than {_LONGEST} bytes")
                if changes := [orjson.loads(line) for line in lines if line]:
                    for change in changes:
                        self._check(change)
                    yield changes

    def _check(self, change: dict[str, Any]) -> None:
        if change["type"] == "ERROR":
            status = change["object"]
            if status.get("code") == 410:
                raise Gone(status.get("message", ""))
            raise Disconnected(f"{self.where} ends the watch: {status.get('message')}")

    @asynccontextmanager
    async def _asked(
        self, path: str, query: Mapping[str, str], timeout: aiohttp.ClientTimeout, what: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        headers = {"Accept": "application/json"}
        configuration = self._configuration
        try:
            login = (await configuration.auth_settings()).get("BearerToken")
            if login:
                headers["Authorization"] = login["value"]
            async with self._session.get(
                configuration.host + path,
                params=query,
                headers=headers,
                timeout=timeout,
                proxy=configuration.proxy,
                server_hostname=configuration.tls_server_name or None,
            ) as answer:
                if answer.status >= 400:
                    raise self._refused(answer.status, await answer.text(), what)
                yield answer
        except (
            aiohttp.ClientError,
            OSError,
            TimeoutError,
            orjson.JSONDecodeError,
        ) as error:
            text = str(error) or type(error).__name__
            raise Disconnected(f"{self.where}: {what}: {text}") from error

    def _refused(self, status: int, body: str, what: str) -> OfeventsError | Gone:
        try:
            text = str(orjson.loads(body)["message"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            text = body[:200]
        kind = f"{self._spec.kind} in {self._spec.api_version}"
        if status == 410:
            return Gone(text)
        if status == 401:
            return ConfigError(f"{self.where} refuses the login: {text}", path=self._path)
        if status == 403:
            return ConfigError(
                f"{self.where} refuses to {what} {kind}: {text}; allow get, list and watch of it "
                "to this service account",
                path=self._path,
            )
        if status == 400:
            at = "fieldSelector" if "field" in text else "labelSelector"
            return ConfigError(f"{self.where}: {text}", path=f"{self._path}.{at}")
        if status == 404:
            return Disconnected(f"{self.where} has no {kind}: install it ({text.strip()})")
        return Disconnected(f"{self.where}: {what}: {status} {text}")
