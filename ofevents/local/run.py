"""`ofevents run`: all of a folder's resources in one process.

Reads as a table of contents: check the files, hold the data directory, start the
server, ensure what the workers need, start them, show what happens, follow the
files, stop in order. Sources stop first, then Triggers (the functions they call
still run), then the programs, then the bus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ofevents import __version__, source, telemetry, trigger
from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.clock import Clock, SystemClock
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local import admin, datadir, programs
from ofevents.local.board import Board
from ofevents.local.buses import Buses
from ofevents.local.datadir import DataDirectory
from ofevents.local.deployment import Deployment
from ofevents.local.programs import Program, Programs
from ofevents.local.screen import JsonScreen, Screen, TextScreen
from ofevents.local.sidecars import Sidecars
from ofevents.local.way import Ways
from ofevents.local.workers import Spec, Workers
from ofevents.process import Stop, unless
from ofevents.resolve import Resolution

SOURCES_WITHIN: Final = 1.0
TRIGGERS_WITHIN: Final = 1.5
"""Seconds that draining may take: with the programs' and the server's end under 5."""
STOP_WITHIN: Final = 4.8
"""After so many seconds what hangs is left behind: it comes again at the next start."""
QUIET: Final = "error"
"""The log's level, except for resources with logLevel debug: what a warning would say
is shown as an event's way or a worker's state."""


@dataclass(frozen=True, slots=True)
class Options:
    """As the command line gives them; `port` None serves no probes, `daprd` None looks for
    the program of dapr buses."""

    files: tuple[Path, ...]
    urls: tuple[str, ...] = ()
    data: Path | None = None
    watch: bool = False
    programs: tuple[str, ...] = ()
    port: int | None = None
    daprd: Path | None = None
    json: bool = False
    log_level: str | None = None
    log_json: bool = False


async def start(options: Options, resolution: Resolution) -> int:
    """Run what the files mean until a signal; the exit code.

    Raises:
        ConfigError: the data directory, a bus or an option is wrong.
    """
    telemetry.configure_logging(options.log_level or QUIET, json=options.log_json)
    telemetry.log_from(options.log_level or QUIET)
    clock = SystemClock()
    screen: Screen = JsonScreen() if options.json else TextScreen(clock)
    with_programs = programs.parse(options.programs)
    for problem in resolution.warnings:
        screen.warn(f"warning: {problem}")
    if not resolution.workers and not resolution.blocked:
        raise ConfigError("there is no EventSource and no Trigger in the files: nothing to run")
    stop = Stop(within=STOP_WITHIN)
    directory = options.data or datadir.beside(options.files[0])
    with stop.listening(), datadir.hold(directory) as data:
        screen.say(f"ofevents {__version__}, data in {directory}")
        datadir.end_all(data.orphans())
        run = _Run(options, screen, clock, data, stop)
        await run.run(resolution, with_programs)
    return 0


class _Run:
    def __init__(
        self, options: Options, screen: Screen, clock: Clock, data: DataDirectory, stop: Stop
    ) -> None:
        self.options = options
        self.screen = screen
        self.clock = clock
        self.data = data
        self.stop = stop
        self.health = Health(clock)
        self.ways = Ways(screen, clock)
        self.sidecars = Sidecars(data.path, clock, daprd=options.daprd)

    async def run(self, resolution: Resolution, with_programs: Sequence[Program]) -> None:
        """Start everything, wait for a signal, stop in order."""
        async with (
            Buses(self.data.path, self.health, self.clock, daprd=self.options.daprd) as buses,
            asyncio.TaskGroup() as group,
        ):
            workers = Workers(group, self._work, health=self.health, screen=self.screen)
            deployment = Deployment(
                group,
                buses,
                workers,
                health=self.health,
                screen=self.screen,
                clock=self.clock,
            )
            board = Board(
                self.health,
                self.screen,
                self.clock,
                lambda: workers.specs.values(),
                lambda kind, name: self.sidecars.why(kind, name) or buses.why(kind, name),
            )
            board_shown = group.create_task(board.show())
            showing = [
                group.create_task(buses.watch()),
                group.create_task(self.ways.show(workers.direct)),
            ]
            if self.options.port is not None:
                showing.append(group.create_task(self._serve(self.options.port)))
            self.stop.at_once += [self.sidecars.kill, buses.kill]
            if await unless(self.stop.event, deployment.prepare(resolution)):
                self.data.write(buses=_dumped(deployment.shared))
                beside = self._programs(deployment.bus, with_programs)
                ending = asyncio.Event()
                group.create_task(beside.run(ending))
                self.stop.at_once.append(beside.kill)
                await deployment.start(resolution)
                showing.append(group.create_task(deployment.follow(self.ways)))
                if self.options.watch:
                    showing.append(
                        group.create_task(deployment.watch(self.options.files, self.options.urls))
                    )
                await self.stop.event.wait()
                board_shown.cancel()
                await self._drain(workers)
                ending.set()
            deployment.close()
            board_shown.cancel()
            for task in showing:
                task.cancel()
        self.screen.say("stopped")

    async def _work(self, spec: Spec, stop: asyncio.Event) -> None:
        if self.options.log_level is None and spec.log_level == "debug":
            telemetry.configure_logging("debug", json=self.options.log_json)
            telemetry.log_from("debug")
        async with self.sidecars.beside(spec) as placed:
            if isinstance(placed, ResolvedSource):
                await source.run(placed, health=self.health, clock=self.clock, stop=stop)
            else:
                await trigger.run(
                    placed, health=self.health, clock=self.clock, stop=stop, trace=self.ways.trace
                )

    async def _serve(self, port: int) -> None:
        await admin.serve(
            self.health,
            host="127.0.0.1",
            port=port,
            stop=asyncio.Event(),
            started=self._serving,
        )

    def _serving(self, url: str) -> None:
        self.data.write(admin=url)
        self.screen.say(f"probes and metrics: {url}/healthz /readyz /status /metrics")

    def _programs(self, bus: ResolvedBus | None, started: Sequence[Program]) -> Programs:
        environment = {}
        if bus is not None:
            # A sidecar calls one process, which is this one: others consume on streams.
            options = {k: v for k, v in bus.options.items() if k != "app_port"}
            given = bus.model_copy(update={"options": options})
            environment["OFEVENTS_BUS"] = given.model_dump_json()
            environment["OFEVENTS_BUS_URL"] = str(bus.options.get("url", ""))
        return Programs(
            started,
            environment=environment,
            health=self.health,
            clock=self.clock,
            line=self.screen.output,
            changed=self._note_programs,
        )

    def _note_programs(self, pids: Sequence[int]) -> None:
        marks = [datadir.mark(pid) for pid in pids]
        self.data.write(programs=tuple(mark for mark in marks if mark is not None))

    async def _drain(self, workers: Workers) -> None:
        """Sources first, so that the Triggers' work has an end."""
        self.screen.say("stopping: no new events, finishing those in hand (Ctrl-C ends at once)")
        sources = [name for name in workers.specs if name[0] == "EventSource"]
        unfinished = await workers.stop(sources, within=SOURCES_WITHIN)
        unfinished += await workers.stop(list(workers.specs), within=TRIGGERS_WITHIN)
        self.ways.flush(all=True)
        for sentence in unfinished:
            self.screen.warn(sentence)
        if not unfinished:
            self.screen.say("nothing was in flight")


def _dumped(buses: Mapping[str, ResolvedBus]) -> dict[str, Any]:
    return {name: bus.model_dump(mode="json") for name, bus in buses.items()}
