"""The Subscriber suite on every subscriber of ours, against real counterparts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from ofevents.conformance.check_subscriber import CHECKS, Check, Rig
from tests.conformance.rigs import subscribers

RIGS = [
    subscribers.http_binary,
    subscribers.http_structured,
    subscribers.topic_memory,
    subscribers.topic_jetstream,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.__name__)
async def test_subscriber(
    rig: Callable[[], AbstractAsyncContextManager[Rig]], check: Check
) -> None:
    async with rig() as made:
        await check(made)
