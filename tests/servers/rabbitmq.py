"""A real RabbitMQ, Debian's: one node and its epmd, on loopback.

    async with RabbitmqServer() as server:
        server.url
        await server.restart()

It belongs to no event loop, so a fixture of any scope may hold it. It keeps its port and
its durable queues over `kill` and `restart`; up in about six seconds.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers import ServerFailed, ServerMissing, find, free_port, listening, until

USER: Final = "guest"
PASSWORD: Final = "guest"

# Debian's command changes to a user of its own; the script behind it does not.
_SCRIPT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitmqServer:
    """One node; `extra` is appended to its configuration.

    Attributes:
        port: of AMQP 0.9.1.
        url: with the login of `USER`, who may do everything.
    """

    def __init__(self, *, extra: str = "") -> None:
        self.port = free_port()
        self.url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/"
        self._extra = extra
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._name = f"ofe{secrets.token_hex(4)}@localhost"
        self._folder = Path()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        if find("rabbitmq-server") is None or not _SCRIPT.exists():
            raise ServerMissing("no rabbitmq-server: apt-get install rabbitmq-server")
        self._folder = Path(tempfile.mkdtemp(prefix="ofevents-rabbitmq-"))
        (self._folder / "plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\n"
            f"disk_free_limit.absolute = 50MB\n{self._extra}\n"
        )
        try:
            self._start_epmd()
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(f"--- the end of RabbitMQ's log\n{self.log()}")
        await self._end()

    async def _end(self) -> None:
        await self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            await asyncio.to_thread(self._epmd.wait)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the processes ------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": folder,  # the cookie is there
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{folder}/flags",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none",
            # The script becomes the node instead of watching it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _start_epmd(self) -> None:
        epmd = shutil.which("epmd")
        if epmd is None:
            raise ServerMissing("no epmd, which comes with rabbitmq-server")
        self._epmd = subprocess.Popen(
            [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def start(self) -> None:
        """Start it on its port and data; returns when clients can connect.

        Raises:
            ServerFailed: it ended, or is not up within 60 s; with the end of its log.
        """
        await until(lambda: listening(self._epmd_port), seconds=10, what="epmd listens")
        self._spawn()
        try:
            await until(self._up, seconds=60, what="RabbitMQ listens")
        except TimeoutError as error:
            raise ServerFailed(f"RabbitMQ is not up:\n{self.log()}") from error

    def _spawn(self) -> None:
        with open(self._folder / "output", "ab") as output:
            self._process = subprocess.Popen(
                [str(_SCRIPT)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env=self._environment(),
                start_new_session=True,
            )

    async def _up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f"RabbitMQ ended with {self._process.returncode}:\n{self.log()}")
        await asyncio.sleep(0.05)
        return await listening(self.port)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    async def kill(self) -> None:
        """SIGKILL to the node and its port programs; its data stay."""
        if self._process is not None and self.running:
            os.killpg(self._process.pid, signal.SIGKILL)  # the session that we have made
            await asyncio.to_thread(self._process.wait)

    async def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        await self.kill()
        await self.start()

    def log(self, size: int = 4000) -> str:
        """The end of its output and its log."""
        parts = [self._folder / "output", *sorted((self._folder / "log").glob("*.log"))]
        found = [
            path.read_bytes()[-size:].decode(errors="replace") for path in parts if path.exists()
        ]
        return "\n".join(found)
