"""A real RabbitMQ, Debian's: one node of its own, on loopback, with its own epmd.

    async with RabbitmqServer() as server:
        server.url
        await server.kill()
        await server.start()

It takes some seconds to start, so tests share one. It keeps its ports and its data
over `kill` and `start`, and belongs to no event loop, so a fixture of any scope may
hold it. Debian's own command would become another user; this runs what it runs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trustme

from tests.servers import HOST, ServerFailed, ServerMissing, find, free_port, listening, until

_SCRIPT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_PATIENCE: Final = 120.0
USER: Final = "guest"
PASSWORD: Final = "guest"


class RabbitmqServer:
    """A node, and the name server of Erlang that it needs; gone when it is left.

    `extra` is appended to its configuration.

    Attributes:
        url: of the plain listener; the same after a restart.
        tls_url: of the listener that wants a certificate of `authority`.
        authority: that made the server's certificate.
    """

    def __init__(self, *, extra: str = "") -> None:
        self._extra = extra
        self._ports = {name: free_port() for name in ("plain", "tls", "distribution", "epmd")}
        self.url = f"amqp://{HOST}:{self._ports['plain']}"
        self.tls_url = f"amqps://{HOST}:{self._ports['tls']}"
        self.authority = trustme.CA()
        self._folder = Path()
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        if not _SCRIPT.exists() or find("epmd") is None:
            raise ServerMissing("no RabbitMQ: apt-get install rabbitmq-server, or make servers")
        self._folder = Path(tempfile.mkdtemp(prefix="ofevents-rabbitmq-"))
        try:
            self._write_config()
            self._epmd = await asyncio.to_thread(
                subprocess.Popen,
                [str(find("epmd")), "-address", "127.0.0.1", "-port", str(self._ports["epmd"])],
                env=self._environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            await until(
                lambda: listening(self._ports["epmd"], "127.0.0.1"),
                seconds=_PATIENCE,
                what="epmd listens",
            )
            await self.start()
        except BaseException:
            await self._leave()
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
        await self._leave()

    async def _leave(self) -> None:
        await self.kill()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            await asyncio.to_thread(epmd.wait)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the node ---------------------------------------------------------------------

    def _write_config(self) -> None:
        own = self.authority.issue_cert(HOST)
        own.private_key_pem.write_to_path(self._folder / "key.pem")
        own.cert_chain_pems[0].write_to_path(self._folder / "cert.pem")
        self.authority.cert_pem.write_to_path(self._folder / "ca.pem")
        (self._folder / "enabled_plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self._ports['plain']}\n"
            f"listeners.ssl.1 = {HOST}:{self._ports['tls']}\n"
            f"ssl_options.cacertfile = {self._folder}/ca.pem\n"
            f"ssl_options.certfile = {self._folder}/cert.pem\n"
            f"ssl_options.keyfile = {self._folder}/key.pem\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
            # Small machines have less than its defaults want to be free.
            "disk_free_limit.absolute = 10MB\nvm_memory_high_watermark.absolute = 2GB\n"
            f"{self._extra}\n"
        )

    def _environment(self) -> Mapping[str, str]:
        folder, port = str(self._folder), self._ports
        return {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin:/bin",
            "HOME": folder,  # the Erlang cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(port["epmd"]),
            "RABBITMQ_NODENAME": f"test{port['plain']}@localhost",
            "RABBITMQ_DIST_PORT": str(port["distribution"]),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none.conf",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": f"{folder}/rabbit.log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
            ),
            # Run by systemd, the script becomes the node, so that its pid is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def start(self) -> None:
        """Start it on its ports and data; returns when clients can connect."""
        with (self._folder / "out.log").open("ab") as out:
            self._node = await asyncio.to_thread(
                subprocess.Popen,
                [str(_SCRIPT)],
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # the node's helpers end with it
            )
        try:
            await until(self._ready, seconds=_PATIENCE, what="RabbitMQ accepts connections")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log()}") from error

    async def _ready(self) -> bool:
        if self._node is None or self._node.poll() is not None:
            raise ServerFailed(f"RabbitMQ ended\n{self.log()}")
        return all([await listening(self._ports[name]) for name in ("plain", "tls")])

    @property
    def running(self) -> bool:
        return self._node is not None and self._node.poll() is None

    async def kill(self) -> None:
        """SIGKILL to the node and its helpers; nothing when it does not run."""
        node, self._node = self._node, None
        if node is None:
            return
        try:
            os.killpg(node.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        await asyncio.to_thread(node.wait)

    def freeze(self) -> None:
        """Let it answer nothing, while its connections stay; until `thaw`."""
        if self._node is not None:
            os.killpg(self._node.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._node is not None:
            os.killpg(self._node.pid, signal.SIGCONT)

    def log(self) -> str:
        """The end of its logs."""
        found = [self._folder / name for name in ("rabbit.log", "out.log")]
        return "\n".join(one.read_text()[-2000:] for one in found if one.exists())

    async def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`, which takes a second or two; what it prints."""
        script = _SCRIPT.with_name("rabbitmqctl")
        process = await asyncio.create_subprocess_exec(
            str(script),
            *arguments,
            env=self._environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise ServerFailed(f"rabbitmqctl {' '.join(arguments)}: {out.decode()[-600:]}")
        return out.decode()
