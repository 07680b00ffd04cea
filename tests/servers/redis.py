"""A real redis-server, and a redis-sentinel, from Debian.

    async with RedisServer(folder) as server:
        server.address
        await server.restart()

It keeps its port and its data over `kill` and `restart`: each write is synced to its
append-only file before it is answered, so kill -9 loses nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.servers import HOST, ServerFailed, ServerMissing, find, free_port, listening, until


class _Process:
    """One process of Debian's `redis-server`, `lines` its configuration."""

    name = "redis-server"
    mode: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._logged = 0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    def lines(self) -> Sequence[str]:
        raise NotImplementedError

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
        config = self.folder / "redis.conf"
        if not config.exists():  # a sentinel writes what it learns into its own
            config.write_text("\n".join(self.lines()) + "\n")
        with self.log.open("ab") as log:
            self._logged = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                str(binary), str(config), *self.mode, stdout=log, stderr=log
            )
        try:
            await until(self._ready, seconds=60, what=f"{self.name} on {self.port}")
        except TimeoutError as error:
            await self.kill()
            raise ServerFailed(f"{error}\n{self.log.read_text()[-2000:]}") from error

    async def _ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"{self.name} ended\n{self.log.read_text()[-2000:]}")
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


class RedisServer(_Process):
    """A server; `extra` are further lines of its configuration.

    Args:
        replica_of: the port of its master on this machine.
        tls: lines of TLS; then `port` speaks TLS only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        extra: Sequence[str] = (),
        replica_of: int | None = None,
        tls: Sequence[str] = (),
    ) -> None:
        super().__init__(folder)
        self._extra = extra
        self._replica_of = replica_of
        self._tls = tls

    async def _ready(self) -> bool:
        """Once it has read its data: until then it listens, and refuses some commands of a
        pipeline, so that a client sends those again that it has taken."""
        with self.log.open("rb") as log:
            log.seek(self._logged)
            return await super()._ready() and b"Ready to accept connections" in log.read()

    def lines(self) -> Sequence[str]:
        listen = [f"tls-port {self.port}", "port 0"] if self._tls else [f"port {self.port}"]
        follow = [f"replicaof {HOST} {self._replica_of}"] if self._replica_of else []
        return [
            f"bind {HOST}",
            *listen,
            f"dir {self.folder}",
            'save ""',
            "appendonly yes",
            "appendfsync always",
            "repl-diskless-sync-delay 0",
            *follow,
            *self._tls,
            *self._extra,
        ]


class RedisSentinel(_Process):
    """A sentinel that watches a master of this machine under the name `shop`."""

    name = "redis-sentinel"
    mode = ("--sentinel",)

    def __init__(self, folder: Path, master: int, *, quorum: int) -> None:
        super().__init__(folder)
        self._master = master
        self._quorum = quorum

    def lines(self) -> Sequence[str]:
        return [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel monitor shop {HOST} {self._master} {self._quorum}",
            # Of a pause beyond two seconds a sentinel knows by itself, and does nothing then.
            "sentinel down-after-milliseconds shop 3000",
            "sentinel failover-timeout shop 5000",
        ]
