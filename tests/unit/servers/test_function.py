"""The function of the fault tests: what it writes is what it answered, whatever ends it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from tests.servers import until
from tests.servers.function import Function


async def call(function: Function, id: str, *, patience: float = 5) -> int:
    """POST the event; the status, 0 where there is no answer."""
    headers = {"ce-specversion": "1.0", "ce-id": id, "ce-source": "/test", "ce-type": "test"}
    timeout = aiohttp.ClientTimeout(total=patience)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(function.url, data=b"{}", headers=headers) as answer,
        ):
            return answer.status
    except (aiohttp.ClientConnectionError, TimeoutError):
        return 0


async def test_each_mode_is_answered_and_written(tmp_path: Path) -> None:
    async with Function(tmp_path) as function:
        began = time.time()
        assert await call(function, "one") == 202
        function.mode(answer="503")
        assert await call(function, "two") == 503
        function.mode(answer="drop")
        assert await call(function, "three") == 0
        function.mode(answer="hang")
        assert await call(function, "four", patience=0.2) == 0
        function.mode(answer="ok", delay=0.2)
        assert await call(function, "five with spaces") == 202
        function.mode(delay=0.0)
        assert await call(function, "one") == 202
        rows = [(one.status, one.id) for one in function.calls()]
        assert rows == [
            (202, "one"),
            (503, "two"),
            (0, "three"),
            (0, "four"),
            (202, "five with spaces"),
            (202, "one"),
        ]
        assert all(began - 0.001 <= one.time <= time.time() for one in function.calls())
        assert function.accepted() == {"one": 2, "five with spaces": 1}


async def test_what_was_not_answered_was_not_accepted(tmp_path: Path) -> None:
    async with Function(tmp_path) as function:
        function.mode(delay=0.5)
        assert await call(function, "impatient", patience=0.2) == 0
        await until(lambda: len(function.calls()) == 1, seconds=5, what="its line")
        assert (function.calls()[0].status, function.calls()[0].id) == (0, "impatient")
        function.mode(delay=30)
        caught = asyncio.create_task(call(function, "cut short"))
        await asyncio.sleep(0.1)  # on its way: nothing of the function tells
        await function.kill()
        assert await caught == 0
        assert not function.accepted()


async def test_gone_and_back_on_the_same_port(tmp_path: Path) -> None:
    async with Function(tmp_path) as function:
        assert await call(function, "before") == 202
        await function.gone()
        assert await call(function, "away") == 0
        with (tmp_path / "ids").open("a") as torn:
            torn.write("1.0 202 tor")
        assert list(function.accepted()) == ["before"]
        await function.back()
        assert await call(function, "after") == 202
        assert list(function.accepted()) == ["before", "after"]


@pytest.mark.parametrize("times", [3])
async def test_a_kept_function_comes_back_from_its_poison(tmp_path: Path, times: int) -> None:
    async with Function(tmp_path, keep=True) as function:
        function.mode(poison="bad")
        for _ in range(times):
            assert await call(function, "bad") == 0

            async def answers() -> bool:
                return await call(function, "good") == 202

            await until(answers, seconds=30, what="it is back")
        bad = [one.status for one in function.calls() if one.id == "bad"]
        assert bad == [0] * times
        assert function.accepted()["good"] == times
        await function.gone()
        assert await call(function, "bad") == 0
        await asyncio.sleep(0.4)  # longer than it takes to start it again
        assert await call(function, "good") == 0
