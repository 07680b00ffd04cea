"""The sink ends as a crash does, whatever is on its way to it."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from tests.servers import HOST
from tests.servers.sink import Sink


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_comes_while_it_stops_is_cut(turns: int) -> None:
    """Accepted some turns of the loop before, or not yet; none is left to the collector either,
    whose warning would fail whatever test comes next."""
    sink = Sink()
    await sink.start()
    with socket.create_connection((HOST, sink.port), timeout=5):
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await sink.stop()
        for _ in range(8):  # one that was being accepted is here by then
            await asyncio.sleep(0)
        assert not sink._open, "it outlives the sink"
    gc.collect()
