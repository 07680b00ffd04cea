"""`ofevents` as a user starts it: processes of their own, found and counted from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psutil

from tests.servers import ServerFailed, free_port, until

ROOT = Path(__file__).parents[2]
OFEVENTS = Path(sys.executable).parent / "ofevents"


async def get(url: str) -> tuple[int, str]:
    """Status and body; status 0 while nobody listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


def _started(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


class Program:
    """`async with Program(folder, "python", "x.py", NAME="value")`: runs until it is left.

    Its output goes to a file in the folder, and is shown when the test fails.
    """

    def __init__(self, folder: Path, *command: str | Path, **environment: str) -> None:
        self._command = [str(part) for part in command]
        self._environment = environment
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{uuid.uuid4().hex}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a run has started outlives it when it is killed: its nats-server, by design.
        started = _started(self.process.pid)
        await self.kill()
        for one in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if error is not None:
            sys.stderr.write(f"--- {' '.join(self._command)}\n{self.log[-4000:]}\n")

    async def start(self) -> None:
        """Start it (again); its log goes on in the same file."""
        with self._path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self._path.read_text(errors="replace") if self._path.exists() else ""

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        await self._signal(signal.SIGKILL)

    async def interrupt(self) -> int:
        """Ctrl-C, and wait: the exit code."""
        return await self._signal(signal.SIGINT)

    async def terminate(self) -> int:
        """SIGTERM, as Kubernetes ends a pod, and wait: the exit code."""
        return await self._signal(signal.SIGTERM)

    async def freeze(self) -> None:
        """SIGSTOP: it stands still, and its connections stay, until `thaw`."""
        process = psutil.Process(self.process.pid)
        self.process.send_signal(signal.SIGSTOP)
        await until(lambda: process.status() == psutil.STATUS_STOPPED, seconds=20, what="it stops")

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def _signal(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    async def says(self, text: str, *, times: int = 1, seconds: float = 60) -> None:
        """Wait until its output contains the text, so many times."""

        def said() -> bool:
            if self.process.returncode is not None and self.log.count(text) < times:
                raise ServerFailed(f"it ended with {self.process.returncode}:\n{self.log[-4000:]}")
            return self.log.count(text) >= times

        try:
            await until(said, seconds=seconds, what=f"it says {text!r}")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log[-4000:]}") from error


class Ofevents(Program):
    """`async with Ofevents(folder, "trigger", "-f", spec, worker=True)`.

    `worker` serves the probes on a free port, for `ready` and `metric`.
    """

    def __init__(
        self, folder: Path, *arguments: str | Path, worker: bool = False, **environment: str
    ) -> None:
        port = free_port()
        probes = ["--port", str(port), "--host", "127.0.0.1"] if worker else []
        super().__init__(folder, OFEVENTS, *arguments, *probes, **environment)
        self.probes = f"http://127.0.0.1:{port}"

    async def ready(self, seconds: float = 60) -> None:
        """Wait until `/readyz` says so."""

        async def answers() -> bool:
            if self.process.returncode is not None:
                raise ServerFailed(f"it ended with {self.process.returncode}:\n{self.log[-4000:]}")
            await asyncio.sleep(0.05)
            return (await get(f"{self.probes}/readyz"))[0] == 200

        try:
            await until(answers, seconds=seconds, what="it is ready")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log[-4000:]}") from error

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        _, text = await get(f"{self.probes}/metrics")
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def call(*arguments: str | Path) -> tuple[int, str]:
    """Run a verb to its end: exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        OFEVENTS,
        *map(str, arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(120):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def specs(files: Path, folder: Path) -> dict[str, Path]:
    """The resolved spec of each worker, by `shop/orders` or `checkout`."""
    code, printed = await call("resolve", "-f", files, "--write", folder)
    assert code == 0, printed
    found = {}
    for path in map(Path, printed.split()):
        _, _, *name = path.name.removesuffix(".yaml").split(".")
        found["/".join(name)] = path
    return found


async def idle(url: str) -> None:
    """Wait until every consumer group of the bus has been handed all, and settled it.

    Longer than the ack wait of 30 s: what a worker that was killed had in hand is settled
    after that, also what nobody is to be called for.
    """

    async def nothing_left() -> bool:
        code, printed = await call("topics", "--bus", url, "-o", "json")
        assert code == 0, printed
        consumers: list[dict[str, Any]] = json.loads(printed)["consumers"]
        return all(one["lag"] == 0 and one["inFlight"] == 0 for one in consumers)

    await until(nothing_left, seconds=90, what="every consumer is at its end")
