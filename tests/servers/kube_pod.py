"""One Pod as a local process: started, probed, started again, reported, ended.

What a kubelet does for a Pod of one container that is always restarted; tests/servers/
kube_runner.py has one of these for each Pod.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.servers import kube_mounts, kube_probes, kube_status
from tests.servers.kube_mounts import NotThere
from tests.servers.kube_status import PodStatus

_LONGEST_PAUSE: Final = 300.0
_FORGIVEN: Final = 600.0
"""Seconds of a run after which the pauses begin anew."""
_GRACE: Final = 30.0
Report = Callable[[Any, dict[str, Any]], Awaitable[bool]]
"""Writes a Pod's status; False when the API server does not answer now."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is here: the command that a container of it runs, and its environment."""

    entrypoint: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


class PodProcess:
    """See the module.

    Attributes:
        address: the Pod's own.
        log: all that its runs have written.
    """

    def __init__(
        self,
        pod: Any,
        image: Image,
        folder: Path,
        address: str,
        *,
        find: kube_mounts.Find,
        report: Report,
        pause: float,
    ) -> None:
        """`pause` is the seconds before the second restart; each further one doubles it."""
        self.address = address
        self.log = folder / "log"
        self._pod = pod
        (self._container,) = pod["spec"]["containers"]
        self._image = image
        self._root = folder / "root"
        self._find = find
        self._report = report
        self._first_pause = self._pause = pause
        self._process: asyncio.subprocess.Process | None = None
        self._status = PodStatus(self._container, address)
        self._to_tell = asyncio.Event()
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._grace = float("inf")
        self._killer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._status.restarts

    async def run(self) -> None:
        """Run it until it is to end; returns, or raises, once its process has ended."""
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell())
            try:
                while not self._ending.is_set():
                    command, env = await self._given()
                    if self._ending.is_set():
                        break
                    ran = await self._once(command, env)
                    if not self._ending.is_set():
                        await self._wait_before_restart(ran)
            finally:
                self.kill()
                if self._process is not None:
                    await self._process.wait()
                telling.cancel()

    def refresh(self) -> None:
        """A ConfigMap or Secret has changed: so do the files."""
        self._changed.set()
        try:
            self._fill()
        except NotThere:
            pass  # what is mounted stays, as on a node

    def end(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after the grace period in seconds."""
        if grace < self._grace:
            self._grace = grace
            self._ending.set()
            self._changed.set()
            self._terminate(grace)

    def kill(self) -> None:
        """SIGKILL it and what it has started."""
        if self.pid is not None:
            with suppress(ProcessLookupError):  # it has ended, and the loop is not told yet
                os.killpg(self.pid, signal.SIGKILL)

    def _terminate(self, grace: float) -> None:
        if self._process is None or self.pid is None:
            return
        self._process.terminate()
        if self._killer is not None:
            self._killer.cancel()
        self._killer = asyncio.get_running_loop().call_later(grace, self.kill)

    # -- the process -----------------------------------------------------------------------

    def _fill(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        kube_mounts.fill(self._pod, self._container, self._root, self.address, self._find)

    async def _given(self) -> tuple[list[str], dict[str, str]]:
        """Command and environment, once all is there that they need."""
        while True:
            self._changed.clear()
            reason = "ContainerCreating"
            try:
                self._fill()
                reason = "CreateContainerConfigError"
                return self._command(), self._environment()
            except NotThere as error:
                if self._ending.is_set():
                    return [], {}
                self._waits(reason, str(error))
                await self._changed.wait()

    def _local(self, text: str) -> str:
        mounts = [each["mountPath"] for each in self._container.get("volumeMounts") or ()]
        return kube_mounts.localised(text, mounts, self._root, self.address)

    def _command(self) -> list[str]:
        """The program is the machine's own, wherever a tree lies; what it is told is the Pod's."""
        command: list[str] = list(self._container.get("command") or self._image.entrypoint)
        command += self._container.get("args", ())
        return [command[0], *map(self._local, command[1:])]

    def _environment(self) -> dict[str, str]:
        own = kube_mounts.environment(self._pod, self._container, self.address, self._find)
        given = {**self._image.environment, "TMPDIR": "/tmp", **own}
        machine = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**machine, **{name: self._local(value) for name, value in given.items()}}

    async def _once(self, command: list[str], env: dict[str, str]) -> float:
        """Run it once; the seconds that it ran."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._root,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its children end with it
            )
        self._status.state = kube_status.running()
        self._to_tell.set()
        if self._ending.is_set():
            self._terminate(self._grace)
        try:
            async with asyncio.TaskGroup() as group:
                watching = kube_probes.watch(self._container, self.address, self)
                probing = group.create_task(watching)
                code = await self._process.wait()
                probing.cancel()
        finally:
            if self._killer is not None:
                self._killer.cancel()
        self._status.started = self._status.ready = False
        self._status.state = kube_status.terminated(code, self._status.state)
        self._to_tell.set()
        return time.monotonic() - began

    async def _wait_before_restart(self, ran: float) -> None:
        """At once for the first time, later the longer the more often it has ended."""
        self._status.last = self._status.state
        self._status.restarts += 1
        if ran > _FORGIVEN:
            self._pause = self._first_pause
        elif self.restarts > 1:
            name, pod = self._container["name"], self._pod["metadata"]["name"]
            text = f"back-off {self._pause:g}s restarting failed container={name} pod={pod}"
            self._waits("CrashLoopBackOff", text)
            pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
            try:
                await asyncio.wait_for(self._ending.wait(), pause)
            except TimeoutError:
                pass  # now it is its turn

    # -- what the probes say, and what the API server is told ------------------------------

    def started(self) -> None:
        self._status.started = True
        self._to_tell.set()

    def ready(self, ready: bool) -> None:
        self._status.ready = ready
        self._to_tell.set()

    def unhealthy(self) -> None:
        self._terminate(self._pod["spec"].get("terminationGracePeriodSeconds", _GRACE))

    def _waits(self, reason: str, message: str) -> None:
        self._status.state = kube_status.waiting(reason, message)
        self._to_tell.set()

    async def _tell(self) -> None:
        """Write the status whenever it has changed."""
        self._to_tell.set()
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            if not await self._report(self._pod, self._status.text()):
                self._to_tell.set()
                await asyncio.sleep(0.2)
