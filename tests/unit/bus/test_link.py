"""The connection to NATS: it never gives up, and says where it goes, never with which password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog
from nats.aio.client import Client

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.jetstream import JetStreamBus
from ofevents.clock import Clock, ManualClock, SystemClock
from ofevents.errors import Disconnected
from ofevents.ports import Bus
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.server("nats")

GUARDED = 'authorization { user: "shop", password: "s3cret" }'


def make(url: str, password: str = "", clock: Clock | None = None) -> Bus:
    if password:
        url = url.replace("nats://", f"nats://shop:{password}@")
    options = {"url": url, "publish_deadline": 3.0}
    bus = ResolvedBus(driver="jetstream", options=options)
    return JetStreamBus(bus, clock=clock or SystemClock())


async def test_an_address_is_shown_without_its_credentials(tmp_path: Path) -> None:
    """Refused, and lost: in `connection` (thus `/status`), in errors and in the log."""
    said: list[str] = []
    with structlog.testing.capture_logs() as logs:
        async with NatsServer(tmp_path, extra=GUARDED) as server:
            where = server.url.removeprefix("nats://")
            refused = make(server.url, "wr0ng")
            entering = asyncio.create_task(refused.__aenter__())
            await until(
                lambda: "Authorization" in refused.connection, seconds=30, what=refused.connection
            )
            said.append(refused.connection)
            entering.cancel()
            await asyncio.wait([entering])
            async with make(server.url, "s3cret") as bus:
                await server.kill()
                await until(lambda: where in bus.connection, seconds=30, what=bus.connection)
                said.append(bus.connection)
                with pytest.raises(Disconnected) as caught:
                    await bus.store.get("a")
                said.append(str(caught.value))
    text = f"{said} {logs}"
    assert all(where in one for one in said), said
    assert "s3cret" not in text and "wr0ng" not in text, text


async def test_it_never_gives_up(tmp_path: Path) -> None:
    """After hundreds of refused tries, minutes apart from the first, the next one counts."""
    clock = ManualClock()
    async with NatsServer(tmp_path) as server:
        await server.kill()
        bus = make(server.url, clock=clock)
        entering = asyncio.create_task(bus.__aenter__())
        for _ in range(300):
            await until(
                lambda: clock.sleeping > 0 or entering.done(), seconds=30, what="its next try"
            )
            assert not entering.done(), "it has given up"
            await clock.advance(2.0)
        await server.start()
        while not entering.done():
            await clock.advance(2.0)
            await asyncio.wait([entering], timeout=0.01)
        await entering
        assert bus.connection == ""
        await bus.__aexit__(None, None, None)


async def test_a_cancelling_that_the_client_swallows_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `asyncio.wait_for` of Python 3.11 does, in the moment in which it is connected."""
    began = asyncio.Event()

    async def swallow(client: Client, *arguments: object, **options: object) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await connect(client, *arguments, **options)

    async with NatsServer(tmp_path) as server:
        connect = Client.connect
        async with make(server.url) as bus:
            monkeypatch.setattr(Client, "connect", swallow)
            await server.kill()
            await began.wait()
            await server.start()
            monkeypatch.setattr(Client, "connect", connect)
            closing = asyncio.create_task(bus.__aexit__(None, None, None))
            done, _ = await asyncio.wait([closing], timeout=40)
            assert done


async def test_a_client_whose_closing_fails_is_replaced(tmp_path: Path) -> None:
    """It could not write down what was left when the connection broke: then it tells nobody."""
    async with NatsServer(tmp_path) as server, make(server.url) as bus:
        client = bus._link.client  # type: ignore[attr-defined]

        async def drain() -> None:
            client._pending.append(b"+ACK")  # what is written meanwhile
            client._pending_data_size = 4
            raise ConnectionResetError("Connection lost")

        client._transport.drain = drain
        with pytest.raises(Disconnected):
            await bus.store.get("a")
        assert isinstance(client._flusher_task.exception(), ConnectionResetError)
        await until(lambda: bus.connection == "", seconds=40, what="another client")
        assert bus._link.client is not client  # type: ignore[attr-defined]
        assert await bus.store.get("a") is None
