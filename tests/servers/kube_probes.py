"""The probes of a container, asked as a kubelet asks them; for tests/servers/kube_pod.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import aiohttp

_SOON: Final = 1.0
"""Seconds between two questions while a container is not ready: a kubelet asks more often
then than `periodSeconds` says."""


class Probed(Protocol):
    """The container that the answers are told to."""

    def started(self) -> None: ...
    def ready(self, ready: bool) -> None: ...
    def unhealthy(self) -> None:
        """It shall be ended and started again."""


async def watch(container: Any, address: str, probed: Probed) -> None:
    """Ask until cancelled, or until the container is told that it is unhealthy."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:

        def ask(probe: Any) -> Callable[[], Any]:
            return lambda: _answers(session, container, address, probe)

        if startup := container.get("startupProbe"):
            await asyncio.sleep(startup.get("initialDelaySeconds", 0))
            if not await _until(startup, ask(startup)):
                probed.unhealthy()
                return
        probed.started()
        async with asyncio.TaskGroup() as group:
            if liveness := container.get("livenessProbe"):
                group.create_task(_live(liveness, ask(liveness), probed))
            if readiness := container.get("readinessProbe"):
                group.create_task(_ready(readiness, ask(readiness), probed))
            else:
                probed.ready(True)


async def _until(probe: Any, ask: Callable[[], Any]) -> bool:
    """Ask until it answers well (True), or has not for too many times in a row (False)."""
    for _ in range(probe.get("failureThreshold", 3)):
        if await ask():
            return True
        await asyncio.sleep(probe.get("periodSeconds", 10))
    return False


async def _live(probe: Any, ask: Callable[[], Any], probed: Probed) -> None:
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    while True:
        if not await _until(probe, ask):
            probed.unhealthy()
            return
        await asyncio.sleep(probe.get("periodSeconds", 10))


async def _ready(probe: Any, ask: Callable[[], Any], probed: Probed) -> None:
    period, failures, ready = probe.get("periodSeconds", 10), 0, False
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    while True:
        failures = 0 if await ask() else failures + 1
        if (not failures and not ready) or failures == probe.get("failureThreshold", 3):
            ready = not failures
            probed.ready(ready)
        await asyncio.sleep(period if ready else min(period, _SOON))


async def _answers(
    session: aiohttp.ClientSession, container: Any, address: str, probe: Any
) -> bool:
    """Whether an httpGet probe is answered well, in time."""
    asked = probe["httpGet"]
    names = {each.get("name"): each["containerPort"] for each in container.get("ports") or ()}
    port = names.get(asked["port"], asked["port"])
    timeout = aiohttp.ClientTimeout(total=probe.get("timeoutSeconds", 1))
    try:
        async with session.get(f"http://{address}:{port}{asked['path']}", timeout=timeout) as found:
            return 200 <= found.status < 400
    except (OSError, aiohttp.ClientError, TimeoutError):
        return False
