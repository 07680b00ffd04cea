"""Positions that sources keep in their bus's store; others have theirs where they read.

`places` forgets those of a deleted EventSource, `sweep` those of an entry that an edit has
removed: one of the same name that comes later begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from ofevents.controller.render import entry_name
from ofevents.ports import Store

_KEEPING: Final = ("cron", "file", "kubernetes")
"""Sources that have a position in the store."""


async def forget(store: Store, namespace: str, name: str) -> None:
    """Remove the positions and leases of an EventSource's entries."""
    for kind in _KEEPING:
        async for found, _ in store.list(f"{kind}/{namespace}/{name}/"):
            await store.delete(found)


async def forget_removed(
    store: Store,
    sources: Mapping[tuple[str, str], Collection[tuple[str, str]]],
    runs: Callable[[str, str], bool],
) -> set[tuple[str, str]]:
    """Remove those of entries that their EventSource has no more.

    Args:
        sources: by namespace and name, its entries, each a kind of source and a name.
        runs: whether a worker is there, by namespace and name. Without its position it
            would begin anew while it ends, so it is waited for.

    Returns:
        Namespace and name of the EventSources that have such a worker.
    """
    waiting = set()
    for kind in _KEEPING if sources else ():
        async for found, _ in store.list(f"{kind}/"):
            _, namespace, name, entry, *_ = found.split("/")
            owner = namespace, name
            if owner not in sources or (kind, entry) in sources[owner]:
                continue
            if runs(namespace, entry_name(name, kind, entry)):
                waiting.add(owner)
            else:
                await store.delete(found)
    return waiting
