"""`--watch`: says when the files may have changed, once a change has come to rest.

Editors replace a file by renaming a new one over it, or delete and write it again:
a file that is gone is looked at twice, a moment apart, before it counts as deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

SUFFIXES: Final = (".yaml", ".yml", ".json")
REST_MS: Final = 100
GONE_FOR: Final = 0.3
"""Seconds that a file must be gone."""


async def changes(files: Sequence[Path]) -> AsyncIterator[set[Path]]:
    """Yields the files that changed, were added or went, until cancelled."""
    folders = {path.resolve() for path in files if path.is_dir()}
    single = {path.resolve() for path in files if not path.is_dir()}
    watched = folders | {path.parent for path in single}

    def wanted(_: Change, name: str) -> bool:
        path = Path(name)
        if path in single:
            return True
        return path.parent in folders and path.suffix in SUFFIXES and path.name[0] != "."

    async for found in awatch(
        *watched, watch_filter=wanted, debounce=REST_MS * 4, step=REST_MS, recursive=False
    ):
        paths = {Path(name) for _, name in found}
        if any(not path.exists() for path in paths):
            await asyncio.sleep(GONE_FOR)
        yield paths


def existing(files: Sequence[Path]) -> list[Path]:
    """Those of -f that are there now: a file that was deleted takes its resources along."""
    return [path for path in files if str(path) == "-" or path.exists()]
