"""The quickstart of `make run`, as a new user meets it, and as one who pulls the plug."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.e2e.processes import ROOT, Ofevents, call
from tests.servers import free_port, until

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True, slots=True)
class Quickstart:
    """A copy of the sample, on ports that are free."""

    folder: Path
    hook: str

    def run(self, *programs: str) -> Ofevents:
        """`ofevents run`, with those of the sample's programs."""
        options = [
            part
            for name in programs
            for part in ("--with", f"{sys.executable} {self.folder / name}.py")
        ]
        return Ofevents(self.folder.parent / "logs", "run", "-f", self.folder, *options)

    async def order(self, amount: int) -> str:
        """Do what the `curl` line does; the event's id."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.hook, json={"amount": amount}) as answer,
        ):
            assert answer.status == 202, await answer.text()
            id: str = (await answer.json())["id"]
            return id

    def processes(self) -> list[psutil.Process]:
        """What runs for this folder: `ofevents run`, its nats-server, its programs."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(self.folder) in " ".join(process.info["cmdline"] or ())
        ]

    def servers(self) -> list[int]:
        """Of these, the embedded nats-servers."""
        return [one.pid for one in self.processes() if "nats-server" in one.info["cmdline"][0]]


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Quickstart]:
    folder = tmp_path / "quickstart"
    shutil.copytree(
        ROOT / "deploy/samples/quickstart",
        folder,
        ignore=shutil.ignore_patterns(".ofevents", "__pycache__"),
    )
    webhook, function = free_port(), free_port()
    for path in folder.iterdir():
        text = path.read_text()
        path.write_text(text.replace("8080", str(webhook)).replace("8090", str(function)))
    made = Quickstart(folder, f"http://127.0.0.1:{webhook}/orders")
    yield made
    for process in made.processes():  # a killed run leaves what it has started
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


async def test_start_curl_stop_and_go_on(quickstart: Quickstart) -> None:
    async with quickstart.run("charge", "audit") as run:
        await run.says(quickstart.hook, times=2)  # in the table, and in the curl line
        await run.says("function=charge")
        await run.says("function=audit")
        large, small = await quickstart.order(150), await quickstart.order(50)
        await run.says(f"charge | charged 150 for order {large}")
        await run.says(f"audit | ofevents.webhook {large}: ")
        await run.says("audit | ofevents.cron ")
        began = time.monotonic()
        assert await run.interrupt() == 0
        assert time.monotonic() - began < 20  # 4.8 s at most, and the end of its process
        assert "nothing was in flight" in run.log
        assert f"{small}  received -> published -> filtered by checkout" in run.log
        assert f"order {small}" not in run.log
        assert "Traceback" not in run.log
        assert quickstart.servers() == []
    async with quickstart.run("charge") as run:  # nobody reads the topic now
        await run.says(quickstart.hook, times=2)
        missed = await quickstart.order(200)
        await run.says(f"charged 200 for order {missed}")
        assert await run.interrupt() == 0
        assert large not in run.log, "what was settled came again"
    async with quickstart.run("charge", "audit") as run:
        await run.says(f"audit | ofevents.webhook {missed}: ")
        assert large not in run.log, "what was settled came again"
        assert await run.interrupt() == 0


async def test_a_second_run_refuses_and_the_first_goes_on(quickstart: Quickstart) -> None:
    async with quickstart.run("charge") as run:
        await run.says(quickstart.hook, times=2)
        code, printed = await call("run", "-f", quickstart.folder)
        assert code == 1
        assert f"pid {run.process.pid}" in printed
        assert "Traceback" not in printed
        await run.says(f"charged 150 for order {await quickstart.order(150)}")
        assert await run.interrupt() == 0


async def test_kill_9_then_run_again_loses_nothing(quickstart: Quickstart) -> None:
    async with quickstart.run() as run:  # the function is not there: its orders wait
        await run.says(quickstart.hook)

        async def listens() -> bool:
            try:
                await quickstart.order(1)
            except aiohttp.ClientConnectionError:
                return False
            return True

        await until(listens, seconds=60, what="the webhook listens")
        orders = [await quickstart.order(1000 + n) for n in range(20)]
        await run.kill()
        async with quickstart.run("charge") as again:
            for n, id in enumerate(orders):
                await again.says(f"charged {1000 + n} for order {id}", seconds=90)
            assert len(quickstart.servers()) == 1, "the orphan was neither taken over nor ended"
            assert await again.interrupt() == 0
            assert quickstart.servers() == []
