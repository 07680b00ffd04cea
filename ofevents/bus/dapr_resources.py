"""The sidecar's component files: written where we may, looked for where we may not.

`ofevents run` and the tests give the driver the folder that daprd watches (HotReload);
what a consumer needs is written there when it begins. On a cluster somebody else
writes them, and the driver says which are missing.

daprd compares the whole folder at each change of a file. A resource that it is just
loading counts as new then, and is closed and loaded again; Kafka's component loses a
subscription that way. So there is one change at a time: one file, written elsewhere
and moved in, and the next one when daprd has loaded it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from ofevents.bus.dapr_components import Manifest
from ofevents.bus.dapr_files import write
from ofevents.bus.dapr_link import Link
from ofevents.errors import Disconnected
from ofevents.event import digest

WITHIN: Final = 10.0
"""Seconds for the sidecar to load what was written, or to end what was taken away."""
_LOOK_EVERY: Final = 0.05
_changing: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = {}
"""The buses of one process share a sidecar, and so a folder."""


class Resources:
    """See the module. `folder` None is a sidecar whose files are not ours."""

    def __init__(self, link: Link, folder: str | None) -> None:
        self._link = link
        self._folder = None if folder is None else Path(folder)

    async def provide(self, manifests: Sequence[Manifest], group: str) -> None:
        """Return when the sidecar has loaded them; they are all of one kind.

        Raises:
            Disconnected: it has not; the text says which are missing.
        """
        if not manifests:
            return
        wanted = {_loaded_as(one) for one in manifests}
        if self._folder is None:
            if missing := wanted - await self._link.components():
                named = ", ".join(sorted(missing))
                raise Disconnected(f"the Dapr sidecar needs the resources {named}")
            return
        async with self._lock():
            if wanted <= await self._link.components():
                return
            write(self._folder, _file(manifests[0]["kind"], group), manifests)
            await self._until(wanted, there=True)

    async def withdraw(self, group: str, *kinds: str) -> None:
        """Take a group's files away; returns when the sidecar has ended what was in them."""
        if self._folder is None:
            return
        async with self._lock():
            for kind in kinds:
                path = self._folder / _file(kind, group)
                if path.exists():
                    gone = {_loaded_as(one) for one in yaml.safe_load_all(path.read_text())}
                    path.unlink()
                    await self._until(gone, there=False)

    def _lock(self) -> asyncio.Lock:
        key = (asyncio.get_running_loop(), str(self._folder))
        return _changing.setdefault(key, asyncio.Lock())

    async def _until(self, names: set[str], *, there: bool) -> None:
        left = names
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    try:
                        loaded = await self._link.components()
                    except Disconnected:
                        pass  # a lost call tells nothing; a sidecar that is gone does at the end
                    else:
                        left = names - loaded if there else names & loaded
                        if not left:
                            return
                    await asyncio.sleep(_LOOK_EVERY)
        except TimeoutError:
            what = "has not loaded" if there else "has not ended"
            named = ", ".join(sorted(left))
            raise Disconnected(f"the Dapr sidecar {what} {named} within {WITHIN:g} s") from None


def _file(kind: str, group: str) -> str:
    return f"{kind.lower()}s-{digest(group)[:16]}.yaml"


def _loaded_as(manifest: Manifest) -> str:
    """How `Link.components` tells it."""
    spec: dict[str, Any] = manifest["spec"]
    if manifest["kind"] == "Subscription":
        return f"{spec['topic']}@{spec['pubsubname']}"
    return str(manifest["metadata"]["name"])
