"""`ofevents source` and `ofevents trigger`: one worker a process, on a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ofevents.bus.embedded import EmbeddedServer
from ofevents.clock import SystemClock
from tests.servers import free_port, until
from tests.servers.sink import Sink
from tests.unit.local.runs import OFEVENTS, Folder, once

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def worker(verb: str, spec: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process once it is ready, and the address of its probes."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *OFEVENTS, verb, "-f", str(spec), "--port", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                assert process.returncode is None, f"{verb} ended"
                try:
                    async with session.get(url + "/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(ready, seconds=60, what=f"{verb} is ready")
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_workers_in_processes_of_their_own_share_the_work(tmp_path: Path) -> None:
    folder, clock = Folder(tmp_path), SystemClock()
    specs = tmp_path / "specs"
    async with Sink() as sink, EmbeddedServer(tmp_path / "nats", clock=clock) as server:
        folder.function = sink.port
        folder.trigger(least=100)
        code, out, err = await once(
            "resolve", "-f", str(tmp_path), "--bus", server.url, "--write", str(specs)
        )
        assert code == 0, out + err
        trigger = specs / "trigger.default.checkout.yaml"
        source = specs / "eventsource.default.shop.orders.yaml"
        async with (
            worker("trigger", trigger) as (first, url),
            worker("trigger", trigger) as (
                second,
                other,
            ),
        ):
            async with worker("source", source) as (webhook, _):
                orders = [await folder.order(1000 + number) for number in range(60)]
                await until(lambda: len(sink.seen) >= 60, seconds=60, what="60 deliveries")
                webhook.send_signal(signal.SIGTERM)
                assert await webhook.wait() == 0
            assert sorted(one.headers["ce-id"] for one in sink.seen) == sorted(orders)
            async with aiohttp.ClientSession() as session:
                counts: list[int] = []

                async def counted() -> bool:
                    counts[:] = [await _delivered(session, one) for one in (url, other)]
                    return sum(counts) >= 60

                # A delivery counts once its answer is read.
                await until(counted, seconds=60, what="60 deliveries are counted")
                async with session.get(url + "/status") as answer:
                    status = json.loads(await answer.text())
            assert sum(counts) == 60
            assert all(counts), "each has done a share"
            assert status["workers"][0]["resource"] == "default/checkout"
            for process in (first, second):
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0


async def _delivered(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url + "/metrics") as answer:
        text = await answer.text()
    name = 'ofevents_delivered_total{name="checkout",namespace="default",subscriber="charge"}'
    found = [line for line in text.splitlines() if line.startswith(name)]
    return int(float(found[0].rpartition(" ")[2])) if found else 0


async def test_send_tail_and_topics_on_a_bus_by_address(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=SystemClock()) as server:
        bus = ["--bus", server.url]
        lines = [
            json.dumps({"specversion": "1.0", "id": f"{n}", "source": "/s", "type": "t", "data": n})
            for n in range(3)
        ]
        code, out, err = await once("send", "-", "--to", "metrics", *bus, stdin="\n".join(lines))
        assert (code, "sent 3 events to metrics" in out) == (0, True), err
        assert "no Trigger or function reads metrics" in out
        code, out, err = await once(
            "tail", "metrics", "--no-follow", "--filter", "event.data > 0", "-o", "json", *bus
        )
        assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "2"], err
        code, again, _ = await once("send", "-", "--to", "copies", *bus, "-o", "json", stdin=out)
        assert json.loads(again)["sent"] == ["1", "2"]
        code, out, _ = await once("topics", *bus)
        assert code == 0
        assert [line.split()[:3] for line in out.splitlines()[2:4]] == [
            ["copies", "topic", "2"],
            ["metrics", "topic", "3"],
        ]


async def test_tail_says_that_a_topic_holds_nothing_and_names_the_nearest(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=SystemClock()) as server:
        bus = ["--no-follow", "--bus", server.url]
        await once("send", "--to", "shop/orders", "-d", "1", "--bus", server.url)
        code, out, err = await once("tail", "shop/ordres", *bus)
        assert (code, out) == (0, "")
        assert err == "note: nothing is on shop/ordres yet; did you mean shop/orders?\n"
        _, out, err = await once("tail", "shop/orders", *bus)
        assert (len(out.splitlines()), err) == (1, "")
        _, _, err = await once("tail", "prices", *bus)
        assert err == "note: nothing is on prices yet.\n", "none is near"


async def test_tail_shows_what_comes_until_ctrl_c(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, clock=SystemClock()) as server:
        bus = ["--bus", server.url]
        process = await asyncio.create_subprocess_exec(
            *OFEVENTS,
            "tail",
            "metrics",
            *bus,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = asyncio.ensure_future(process.stdout.readline())
            async with asyncio.timeout(90):
                while not line.done():  # it is live at some moment: send until it shows one
                    await once("send", "--to", "metrics", "-d", "seen", *bus)
            assert b"metrics ofevents.sent" in line.result()
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(40):
                assert await process.wait() == 130
            told = (await process.stderr.read()).decode()
            # It says so unless the first was sent before it had looked.
            note = "note: nothing is on metrics yet. Only new events are shown"
            assert not told or (told.startswith(note) and len(told.splitlines()) == 1)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_taken_probe_port_is_a_sentence(tmp_path: Path) -> None:
    Folder(tmp_path)
    specs = tmp_path / "specs"
    async with EmbeddedServer(tmp_path / "nats", clock=SystemClock()) as server:
        bus = ["--bus", server.url]
        code, out, _ = await once("resolve", "-f", str(tmp_path), *bus, "--write", str(specs))
        assert code == 0, out
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = str(holder.getsockname()[1])
            spec = str(specs / "trigger.default.checkout.yaml")
            code, _, err = await once("trigger", "-f", spec, "--port", port)
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err
