"""A real redis-server, from Debian.

    async with RedisServer(folder) as server:
        server.address
        await server.restart()

It keeps its port and its data over `kill` and `restart`: each write is synced to its
append-only file before it is answered, so kill -9 loses nothing.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import ServerFailed, ServerMissing, find, free_port, listening, until


class RedisServer:
    """One process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

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
        """Start it and wait until it answers."""
        binary = find("redis-server")
        if binary is None:
            raise ServerMissing("no redis-server: apt-get install redis-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        command = [str(binary)]
        for name, value in settings.items():
            command += [f"--{name}", value]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            await until(self._ready, seconds=15, what=f"redis-server on {self.port}")
        except TimeoutError as error:
            await self.kill()
            raise ServerFailed(f"{error}\n{self.log.read_text()[-2000:]}") from error

    async def _ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"redis-server ended\n{self.log.read_text()[-2000:]}")
        return await listening(self.port)

    async def kill(self) -> None:
        """SIGKILL, and wait; nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        await self.kill()
        await self.start()
