"""One connection for many sends: one attempt at a time, made again once it is lost."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from ofevents.clock import ManualClock
from ofevents.errors import Unavailable
from ofevents_adapters.redial import Redial


class Line:
    """A connection that is made when `up` is set, or fails."""

    up: asyncio.Event
    fails = False
    dialled = 0
    closed = 0

    def __init__(self) -> None:
        self.alive = False

    async def __aenter__(self) -> Self:
        Line.dialled += 1
        await Line.up.wait()
        if Line.fails:
            raise Unavailable("nobody answers")
        self.alive = True
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.alive = False
        Line.closed += 1


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> type[Line]:
    for name, value in {"fails": False, "dialled": 0, "closed": 0}.items():
        monkeypatch.setattr(Line, name, value)
    monkeypatch.setattr(Line, "up", asyncio.Event(), raising=False)
    return Line


async def test_many_share_one_attempt_and_a_cancelled_one_does_not_end_it(
    line: type[Line],
) -> None:
    redial = Redial(Line, ManualClock())
    asking = [asyncio.create_task(redial.get()) for _ in range(5)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    line.up.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({id(one) for one in found[1:]}) == 1
    assert await redial.get() is found[1]
    assert line.dialled == 1
    await redial.close()
    assert line.closed == 1


async def test_a_failure_is_everyones_and_the_next_attempt_waits_a_little(
    line: type[Line],
) -> None:
    clock = ManualClock()
    redial = Redial(Line, clock)
    line.up.set()
    line.fails = True
    found = await asyncio.gather(redial.get(), redial.get(), return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable, Unavailable]
    assert line.dialled == 1
    line.fails = False
    again = asyncio.create_task(redial.get())
    await clock.advance(0.1)
    assert line.dialled == 1
    await clock.advance(0.2)
    assert (await again).alive
    await redial.close()


async def test_a_lost_connection_is_closed_and_made_again(line: type[Line]) -> None:
    clock = ManualClock()
    redial = Redial(Line, clock)
    line.up.set()
    first = await redial.get()
    first.alive = False
    await clock.advance(1)
    second = await redial.get()
    assert second is not first
    assert (line.dialled, line.closed) == (2, 1)
    await redial.close()


async def test_closing_ends_an_attempt(line: type[Line]) -> None:
    redial = Redial(Line, ManualClock())
    asking = asyncio.create_task(redial.get())
    await asyncio.sleep(0.01)
    await redial.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert asyncio.all_tasks() == {asyncio.current_task()}
