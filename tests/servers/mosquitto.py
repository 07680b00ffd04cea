"""A real Mosquitto broker, Debian's.

    async with Mosquitto(folder) as server:
        server.url
        await server.restart()

It keeps its port and, with a session's messages, its data over `stop`, `kill` and
`restart`: it writes them down at its end, and where it is `durable` after each change.
"""

from __future__ import annotations

import asyncio
import getpass
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.servers import HOST, ServerFailed, ServerMissing, find, free_port, listening, until


class Mosquitto:
    """One process; `extra` is appended to its configuration.

    Args:
        durable: writes all its data down after each change, which survives a kill, and
            makes it the slower the more there is; False: at its end alone.

    Attributes:
        listener: further lines for the listener itself, such as its certificates.
    """

    def __init__(
        self, folder: Path, *, extra: str = "", listener: str = "", durable: bool = True
    ) -> None:
        self.port = free_port()
        self.url = f"tcp://{HOST}:{self.port}"
        self.listener = listener
        self._folder = folder
        self._extra = extra
        self._durable = durable
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self._folder / "mosquitto.log"

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
        """Start it and wait until it accepts connections."""
        binary = find("mosquitto")
        if binary is None:
            raise ServerMissing("no mosquitto: apt-get install mosquitto, or make servers")
        self._folder.mkdir(parents=True, exist_ok=True)
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        config = self._folder / "mosquitto.conf"
        anonymous = "" if "allow_anonymous" in self._extra else "allow_anonymous true\n"
        config.write_text(
            f"listener {self.port} {HOST}\n{self.listener}\n{anonymous}"
            # Started as root it would become a user that may not write here.
            f"user {getpass.getuser()}\n"
            f"persistence true\npersistence_location {data}/\n"
            f"autosave_on_changes {str(self._durable).lower()}\n"
            f"autosave_interval {int(self._durable)}\n"
            "log_type all\nmax_queued_messages 0\n"
            f"{self._extra}\n"
        )
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(binary), "-c", str(config), stdout=log, stderr=log
            )
        try:
            await until(self._ready, seconds=60, what=f"mosquitto on {self.port}")
        except TimeoutError as error:
            await self.kill()
            raise ServerFailed(f"{error}\n{self.log.read_text()[-2000:]}") from error

    async def _ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"mosquitto ended\n{self.log.read_text()[-2000:]}")
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
        """Let it write down what it holds, and start it again on the same port."""
        await self.stop()
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
