"""A real PostgreSQL, from Debian: one cluster of its own on loopback.

    async with PostgresServer() as server:
        server.dsn

PostgreSQL refuses to run as root: then it runs as Debian's user `postgres`, in a
folder that belongs to it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers import HOST, ServerFailed, ServerMissing, find, free_port, listening, until


class PostgresServer:
    """See the module; everybody on this machine may log in as `tests`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path()
        self._process: asyncio.subprocess.Process | None = None
        self._as: dict[str, Any] = {}

    @property
    def dsn(self) -> str:
        return f"host={HOST} port={self.port} user=tests database=postgres sslmode=disable"

    async def __aenter__(self) -> Self:
        found = find("postgres")
        if found is None or not (found.parent / "initdb").exists():
            raise ServerMissing("no PostgreSQL: apt-get install postgresql")
        self._folder = Path(tempfile.mkdtemp(prefix="ofevents-postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        try:
            await asyncio.to_thread(self._create, found.parent / "initdb")
            await self._start(found)
        except BaseException:
            await self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _create(self, initdb: Path) -> None:
        data = self._folder / "data"
        command: list[str | Path] = [
            initdb,
            "-D",
            data,
            "-U",
            "tests",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=self._folder, **self._as
        )
        if done.returncode:
            raise ServerFailed(f"initdb failed:\n{done.stderr[-2000:]}")

    async def _start(self, binary: Path) -> None:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary, "-D", self._folder / "data", *options, stdout=log, stderr=log,
                cwd=self._folder, **self._as,
            )  # fmt: skip
        try:
            await until(self._ready, seconds=60, what=f"PostgreSQL on {self.port}")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log()}") from error

    async def _ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"PostgreSQL ended\n{self.log()}")
        return "ready to accept connections" in self.log() and await listening(self.port)

    def log(self) -> str:
        """The end of its log."""
        return (self._folder / "log").read_text()[-2000:]

    async def kill(self) -> None:
        """End it at once, with the processes that it has started."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGQUIT)  # "immediate shutdown"
            await process.wait()
