"""Waiting that ends when the process is asked to stop."""

from __future__ import annotations

import asyncio

import pytest

from ofevents.process import unless


async def test_work_that_is_completed_is_told_from_work_that_is_cut_off() -> None:
    stop = asyncio.Event()
    assert await unless(stop, asyncio.sleep(0))
    asyncio.get_running_loop().call_soon(stop.set)
    assert not await unless(stop, asyncio.sleep(60))


async def test_work_that_is_cut_off_has_its_time_to_close() -> None:
    stop, closed = asyncio.Event(), []

    async def work() -> None:
        try:
            stop.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    assert not await unless(stop, work())
    assert closed


async def test_the_trouble_of_the_work_comes_out() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await unless(asyncio.Event(), work())
