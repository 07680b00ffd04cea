"""The objects of a kind as the API server has them, kept up to date by a watch.

tests/servers/kube_runner.py follows Pods, ConfigMaps and Secrets with it. It has no code of
the product's own watch, which is among what is tested.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiohttp

_AGAIN: Final = 0.1
"""Seconds between two attempts at an API server that does not answer."""
_LONGEST: Final = 2**22
"""Bytes of one object."""
Name = tuple[str, str]


class Watched:
    """All objects at one path, in every namespace.

    Attributes:
        objects: by (namespace, name).
        listed: set once they have been listed.
    """

    def __init__(
        self, url: str, trust: ssl.SSLContext, token: str, changed: Callable[[], None]
    ) -> None:
        """`changed` is called after each change; it must not block."""
        self.objects: dict[Name, Any] = {}
        self.listed = asyncio.Event()
        self._url = url
        self._trust = trust
        self._headers = {"Authorization": f"Bearer {token}"}
        self._changed = changed

    async def run(self) -> None:
        """Follow until cancelled, over losses of the API server."""
        connector = aiohttp.TCPConnector(ssl=self._trust)
        async with aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            read_bufsize=_LONGEST,
        ) as session:
            while True:
                try:
                    await self._follow(session, await self._list(session))
                except (OSError, aiohttp.ClientError, ValueError):
                    await asyncio.sleep(_AGAIN)

    async def _list(self, session: aiohttp.ClientSession) -> str:
        """Replace what is known; the version to follow from."""
        async with session.get(self._url, raise_for_status=True) as answer:
            found = await answer.json()
        self.objects = {_name(each): each for each in found["items"]}
        self.listed.set()
        self._changed()
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, session: aiohttp.ClientSession, version: str) -> None:
        """Take changes until the connection ends or the version is too old."""
        asked = {"watch": "true", "resourceVersion": version}
        async with session.get(self._url, params=asked, raise_for_status=True) as answer:
            async for line in answer.content:
                change = json.loads(line)
                if change["type"] == "ERROR":
                    return
                name = _name(change["object"])
                if change["type"] == "DELETED":
                    self.objects.pop(name, None)
                else:
                    self.objects[name] = change["object"]
                self._changed()


def _name(found: Any) -> Name:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]
