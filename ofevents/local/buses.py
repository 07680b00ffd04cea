"""The buses of `ofevents run`: the servers it owns, and a connection to each bus.

Every bus without a url lives on the one nats-server that this process owns, each
under a stream prefix of its own; every dapr bus has a daprd. The connections made here
are for what the run itself does (ensure, browse, remove); every worker opens its own.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus
from ofevents.bus.dapr_components import manifests
from ofevents.bus.dapr_options import read_options
from ofevents.bus.embedded import EmbeddedServer
from ofevents.clock import Clock
from ofevents.health import Health, WorkerHealth
from ofevents.local.daprd import Daprd, find_binary
from ofevents.local.workers import Spec
from ofevents.ports import Bus

KIND: Final = "EventBus"
INTERVAL: Final = 0.5
STREAM: Final = "ofevents"
_END_WITHIN: Final = 3.0
"""Seconds for a bus's daprd to end: what it was handed goes to the broker before."""
_PLAIN: Final = ("default", "default/default")
"""The bus of a folder without an EventBus, and the one that says the same: it keeps its
streams when the user writes the document."""

_Known = tuple[ResolvedBus, Bus, WorkerHealth]


class Buses:
    """Used as `async with`; leaving closes the connections, then ends the server.

    Attributes:
        server: the embedded one, None while no bus needs it.

    Args:
        daprd: the program for dapr buses; None looks for it when one needs it.
    """

    def __init__(
        self, directory: Path, health: Health, clock: Clock, *, daprd: Path | None = None
    ) -> None:
        self._directory = directory
        self._health = health
        self._clock = clock
        self._stack = AsyncExitStack()
        self._open: dict[str, Bus] = {}
        self._known: dict[str, _Known] = {}
        self._daprd = daprd
        self._sidecars: dict[str, Daprd] = {}
        self.server: EmbeddedServer | None = None

    async def __aenter__(self) -> Buses:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def place(self, spec: Spec) -> Spec:
        """The spec with the address of the embedded server where its bus is embedded.

        Raises:
            ConfigError: the server cannot be started.
        """
        if spec.bus is None:
            return spec
        return spec.model_copy(update={"bus": await self.address(spec.bus)})

    async def address(self, bus: ResolvedBus) -> ResolvedBus:
        """A bus that can be opened: the embedded one with its url, a dapr one with its sidecar."""
        if bus.driver == "dapr" and "sidecar" not in bus.options:
            return await self._beside_sidecar(bus)
        if not bus.options.get("embedded"):
            return bus
        if self.server is None:
            server = EmbeddedServer(
                self._directory / "nats",
                sync=bus.options.get("sync") or "default",
                max_bytes=bus.options.get("max_bytes"),
                clock=self._clock,
            )
            await self._stack.enter_async_context(server)
            self.server = server
        options: dict[str, Any] = {
            name: value for name, value in bus.options.items() if name not in ("embedded", "sync")
        }
        options["url"] = self.server.url
        if bus.name not in _PLAIN and options.get("stream") in (None, STREAM):
            options["stream"] = f"{STREAM}-{re.sub('[^A-Za-z0-9_-]', '_', bus.name)}"
        return bus.model_copy(update={"options": options})

    async def _beside_sidecar(self, bus: ResolvedBus) -> ResolvedBus:
        """The bus with a daprd of its own, started when it is first asked for."""
        key = bus.model_dump_json()
        if (known := self._sidecars.get(key)) is not None:
            return _beside(bus, known)
        name = re.sub("[^A-Za-z0-9_-]", "_", bus.name)
        daprd = Daprd(
            self._directory / f"dapr-{name}",
            find_binary(self._daprd, user="a dapr bus", path="dapr"),
            app_id="ofevents",
            app=True,
            hot_reload=True,
            end_within=_END_WITHIN,
            clock=self._clock,
        )
        placed = _beside(bus, daprd)
        needed = manifests(read_options(placed.options), bus.name, ())
        await self._stack.enter_async_context(daprd.running(needed))
        self._sidecars[key] = daprd
        return placed

    async def connect(self, resolved: ResolvedBus) -> Bus:
        """The run's own connection to that bus, made when it is first asked for.

        Waits for the server as long as it takes; the table says so.
        """
        key = resolved.model_dump_json()
        if key not in self._open:
            bus = open_bus(resolved, clock=self._clock)
            worker = self._health.worker(KIND, resolved.name)
            earlier = self._known.get(resolved.name)
            self._known[resolved.name] = (resolved, bus, worker)
            try:
                await self._stack.enter_async_context(bus)
            except BaseException:
                self._forget(resolved.name, earlier)
                raise
            self._open[key] = bus
            worker.ready(_shown(resolved, self.server))
        return self._open[key]

    def _forget(self, name: str, earlier: _Known | None) -> None:
        """A bus of a changed file does not answer: show what runs on as before."""
        if earlier is None:
            del self._known[name]
            self._health.forget(KIND, name)
        else:
            self._known[name] = (earlier[0], earlier[1], self._health.worker(KIND, name))

    def why(self, kind: str, name: str) -> str:
        """Why the sidecar of that bus ended last, "" if it has none or it never did."""
        if kind != KIND or name not in self._known:
            return ""
        address = self._known[name][0].options.get("sidecar")
        beside = self._sidecars.values()
        return next((one.why for one in beside if one.grpc == address), "")

    def kill(self) -> None:
        """End the servers at once; for a second Ctrl-C."""
        if self.server is not None and self.server.pid is not None:
            os.kill(self.server.pid, signal.SIGKILL)
        for daprd in self._sidecars.values():
            daprd.kill()

    async def watch(self) -> None:
        """Report each connection's state, until cancelled."""
        rounds = 0
        while True:
            for resolved, bus, worker in self._known.values():
                opened = resolved.model_dump_json() in self._open
                reason = bus.connection
                if opened and not reason:
                    worker.ready(_shown(resolved, self.server))
                elif opened or rounds > 2:  # connecting takes a moment, which is no news
                    worker.stalled("Disconnected", reason)
            rounds += 1
            await self._clock.sleep(INTERVAL)


def _beside(bus: ResolvedBus, daprd: Daprd) -> ResolvedBus:
    own = {
        "sidecar": daprd.grpc,
        "app_port": daprd.app_port,
        "resources": str(daprd.resources),
    }
    return bus.model_copy(update={"options": {**bus.options, **own}})


def for_others(resolved: ResolvedBus) -> ResolvedBus:
    """A bus of this run as another process reaches it.

    The sidecar of a dapr bus hands messages to this process alone: others publish.
    """
    if resolved.driver != "dapr":
        return resolved
    options = {k: v for k, v in resolved.options.items() if k not in ("app_port", "resources")}
    return resolved.model_copy(update={"options": options})


def _shown(resolved: ResolvedBus, server: EmbeddedServer | None) -> str:
    if resolved.driver == "dapr":
        return f"{resolved.options['pubsub']['type']} (daprd at {resolved.options['sidecar']})"
    url = str(resolved.options.get("url", resolved.driver))
    embedded = server is not None and url == server.url
    return f"{url} (embedded)" if embedded else url.rpartition("@")[2] if "@" in url else url
