"""How a check fails: one exception, and the two ways to come to it.

Used by the rigs of the suites; `within` there adds what that suite waits at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class NotConformant(AssertionError):
    """The driver breaks its contract; the text says which sentence of it."""


def require(condition: bool, sentence: str) -> None:
    """Raise NotConformant unless the condition holds."""
    if not condition:
        raise NotConformant(sentence)


async def come_true(condition: Callable[[], bool], sentence: str, seconds: float) -> None:
    """Wait for a condition; NotConformant when it does not come in so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"not within {seconds:g} s: {sentence}")
        await asyncio.sleep(0.01)
