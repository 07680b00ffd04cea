"""`ofevents run` as a user starts it: a process of its own, read through -o json."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.servers import free_port, until

OFEVENTS = (sys.executable, "-c", "from ofevents.cli import main; main()")

SOURCES = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  webhook:
    orders: {{host: 127.0.0.1, port: {webhook}, path: /orders}}
"""
TRIGGER = """
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: checkout}}
spec:
  eventBus: default
  suspend: {suspend}
  inputs:
    orders: {{eventSource: shop, event: orders, filter: event.data.amount > {least}}}
  subscribers:
  - name: charge
    sink: {{uri: "http://127.0.0.1:{function}/"}}
    delivery: {{retries: 100, backoff: 100ms, maxBackoff: 200ms}}
  - name: audit
    topic: audit
"""
CHARGE = """
from ofevents.function import Event, Function
function = Function("charge")

@function.on_http()
def charge(event: Event) -> None:
    print("charged", event.value["amount"])

function.run(port={function})
"""


class Folder:
    """A user's folder: a webhook, a Trigger with a filter, a function."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.webhook, self.function = free_port(), free_port()
        (path / "sources.yaml").write_text(SOURCES.format(webhook=self.webhook))
        self.trigger(least=100)
        (path / "charge.py").write_text(CHARGE.format(function=self.function))

    def trigger(self, *, least: str | int, suspend: bool = False) -> None:
        """Write the Trigger, replacing the file as editors do."""
        text = TRIGGER.format(least=least, function=self.function, suspend=str(suspend).lower())
        draft = self.path / ".draft"
        draft.write_text(text)
        os.replace(draft, self.path / "trigger.yaml")

    def hang(self) -> None:
        """Have the function say that it is called, and never answer."""
        path = self.path / "charge.py"
        told = 'print("called"); time.sleep(60); print("ch'
        path.write_text("import time\n" + path.read_text().replace('print("ch', told))

    @property
    def charge(self) -> list[str]:
        return ["--with", f"{sys.executable} {self.path / 'charge.py'}"]

    async def order(self, amount: int, *, port: int | None = None) -> str:
        """Post an order; its event's id."""
        url = f"http://127.0.0.1:{port or self.webhook}/orders"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"amount": amount}) as answer,
        ):
            assert answer.status == 202, await answer.text()
            return str((await answer.json())["id"])


class Run:
    """One running `ofevents run`, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.errors = b""

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = await self.process.stderr.read()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]

    def texts(self) -> str:
        return "\n".join(line["text"] for line in self.lines if "text" in line)

    def states(self) -> dict[str, str]:
        tables = self.of("state")
        return {row["resource"]: row["state"] for row in tables[-1]["rows"]} if tables else {}

    def row(self, resource: str) -> dict[str, str]:
        rows = self.of("state")[-1]["rows"]
        found: dict[str, str] = next(row for row in rows if row["resource"] == resource)
        return found

    def ends(self, event_id: str) -> set[str]:
        """The last step of each way that the event has gone."""
        ways = [way for way in self.of("way") if way["id"] == event_id]
        return {" ".join(step["step"] for step in way["steps"][2:]) for way in ways}

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        def holds() -> bool:
            if self.process.returncode is not None and not condition():
                raise AssertionError(f"it ended before {what}: {self.lines} {self.errors!r}")
            return condition()

        try:
            await until(holds, seconds=seconds, what=what)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.lines[-8:]}") from None

    async def ready(self, *resources: str) -> None:
        def all_ready() -> bool:
            return all(self.states().get(one) == "ready" for one in resources)

        await self.until(all_ready, f"{resources} ready")

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """The exit code; it takes 4.8 s and the end of its process, and has 20."""
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Run]:
    """Start it; whatever is left of it and of its children is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *OFEVENTS,
        "run",
        "-o",
        "json",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    run = Run(process)
    children: list[psutil.Process] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run.read()), group.create_task(run.read_errors())]
            yield run
            children = _children(process.pid)
            if process.returncode is None:
                await run.stop()
            for task in tasks:
                task.cancel()
    finally:
        for one in [*_children(process.pid), *children]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


async def once(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """A verb that ends by itself: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *OFEVENTS,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
