"""Waiting that ends early when the worker is asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Await `work`; once `stop` is set it is cancelled. Whether it was completed.

    Raises:
        Exception: what `work` raised.
    """
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        left = [one for one in (task, stopping) if not one.done()]
        for one in left:
            one.cancel()
        # A cancelled task may still have something to close.
        await asyncio.gather(*left, return_exceptions=True)
