"""The controller as a process: the lease, then the caches, then the work.

Called by `ofevents controller`. Nothing is written before the lease is held; when it is
lost the process ends, and the next one begins from what the cluster holds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ofevents.clock import Clock, SystemClock
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api
from ofevents.cluster.lease import Lease, Lost
from ofevents.controller.admission import Admission, configure, serve
from ofevents.controller.buses import Buses
from ofevents.controller.changes import Changes
from ofevents.controller.depend import Dependencies
from ofevents.controller.events import Recorder
from ofevents.controller.queue import WorkQueue
from ofevents.controller.reconcile import Reconciler
from ofevents.controller.render import Platform
from ofevents.controller.sweep import Sweeper
from ofevents.controller.workers import Workers
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local import admin
from ofevents.process import Stop, first_error, unless

LEASE: Final = "ofevents-controller"
WORKERS: Final = 8
"""Resources that are reconciled side by side."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        namespaces: those that are looked at; none is all.
        lease_namespace: where the lease is.
        port: of probes and metrics; None serves none.
        admission: where the validating webhook is served; None serves none.
    """

    platform: Platform
    namespaces: tuple[str, ...] = ()
    lease_namespace: str = "ofevents-system"
    kubeconfig: Path | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    admission: Admission | None = None


async def run(options: Options) -> None:
    """Until a signal.

    Raises:
        ConfigError: no cluster, a port that is taken, or the lease was lost.
    """
    clock = SystemClock()
    health = Health(clock)
    with Stop(within=30.0).listening() as stop:
        async with asyncio.TaskGroup() as group:
            if options.port is not None:
                serving = admin.serve(
                    health, host=options.host, port=options.port, stop=stop.event,
                    started=lambda url: None,
                )  # fmt: skip
                group.create_task(serving)
            try:
                async with Api(options.kubeconfig) as api, asyncio.TaskGroup() as inner:
                    if options.admission is not None:
                        answering = inner.create_task(serve(api, options.admission, clock))
                    await _lead(api, options, health, stop.event, clock)
                    if options.admission is not None:
                        answering.cancel()
            finally:
                stop.event.set()


async def _lead(
    api: Api, options: Options, health: Health, stop: asyncio.Event, clock: Clock
) -> None:
    holder = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    lease = Lease(api, options.lease_namespace, LEASE, holder, clock=clock)
    worker = health.worker("Controller", f"{options.lease_namespace}/{LEASE}")
    worker.ready(reason="Standby", message="another controller holds the lease")
    with worker.waiting("the lease"):
        if not await unless(stop, lease.take()):
            return
    worker.ready(reason="Leading")
    try:
        with worker.waiting("changes in the cluster"):
            await unless(stop, _work(api, options, lease, holder, clock))
    except Lost as lost:
        raise ConfigError(f"{lost}: this controller ends, so that one alone writes") from lost
    finally:
        await lease.release()


async def _work(api: Api, options: Options, lease: Lease, holder: str, clock: Clock) -> None:
    """Lead until cancelled, or until the lease is lost."""
    controller = Controller(api, options, holder, clock)
    api.guard = lease.check
    try:
        async with asyncio.TaskGroup() as group:
            # From the beginning: what comes next may take longer than the lease lasts.
            group.create_task(lease.keep())
            if options.admission is not None:
                group.create_task(configure(api, options.admission, clock))
            group.create_task(controller.run())
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None


class Controller:
    """All parts, put together; tests run it without a lease.

    Attributes:
        queue: idle when there is nothing to do.
        changes: asks for resources to be looked at.
    """

    def __init__(self, api: Api, options: Options, holder: str, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._depends = Dependencies()
        self.changes = Changes(self.queue, self._depends)
        self.caches = Caches(
            api, options.namespaces, self.changes.changed, self.changes.all, clock=clock
        )
        again: Callable[..., None] = self.queue.add
        self._buses = Buses(again, clock)
        self._sweeper = Sweeper(Workers(self.caches).there, clock)
        self._reconciler = Reconciler(
            api,
            self.caches,
            self.queue,
            self._buses,
            self._depends,
            self._sweeper,
            Recorder(api, holder, clock),
            options.platform,
            clock,
        )

    async def run(self) -> None:
        """Fill the caches, then reconcile, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.caches.run())
                await self.caches.filled()
                self.changes.open(self.caches)
                for _ in range(WORKERS):
                    group.create_task(self._reconciler.run())
        finally:
            self.queue.close()
            await self._sweeper.close()
            await self._buses.close()
