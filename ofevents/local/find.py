"""Which bus a person means, for `send`, `tail` and `topics`, and the way to it.

In this order: `--bus`, the bus of the `ofevents run` that holds the data
directory now, the EventBus of the files given with -f.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.local import datadir, folder
from ofevents.ports import Bus

CONNECT: Final = 5.0
"""Seconds that a bus gets to answer; a worker would wait for ever, a person is told."""


@asynccontextmanager
async def connect(resolved: ResolvedBus) -> AsyncIterator[Bus]:
    """The bus, connected.

    Raises:
        ConfigError: it does not answer within `CONNECT` seconds.
    """
    bus = open_bus(resolved, clock=SystemClock())
    entering = asyncio.ensure_future(bus.__aenter__())
    await asyncio.wait([entering], timeout=CONNECT)
    if not entering.done():
        reason = bus.connection
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        raise ConfigError(f"the bus does not answer within {CONNECT:g} s: {reason}")
    entering.result()
    try:
        yield bus
    finally:
        await bus.__aexit__(None, None, None)


def find(
    address: str | None, files: Sequence[Path], data: Path | None, namespace: str
) -> ResolvedBus:
    """The bus to talk to.

    Raises:
        ConfigError: there is none, or several and it is not said which.
    """
    if address is not None:
        if "://" not in address:
            raise ConfigError(f"--bus {address!r} is no address such as nats://127.0.0.1:4222")
        return ResolvedBus(driver="jetstream", options={"url": address})
    where = list(files) or [Path.cwd()]
    directory = data or datadir.beside(where[0])
    if datadir.held(directory) and (state := datadir.read(directory)) is not None:
        return _choose(
            {name: ResolvedBus.model_validate(bus) for name, bus in state.buses.items()},
            namespace,
            f"the `ofevents run` that holds {directory}",
        )
    return _declared(where, directory, namespace)


def _declared(where: Sequence[Path], directory: Path, namespace: str) -> ResolvedBus:
    shown = ", ".join(map(str, where))
    buses = folder.buses(where)
    if not buses:
        raise ConfigError(
            f"no bus is found: no `ofevents run` holds {directory}, and there is no EventBus "
            f"in {shown}; start `ofevents run -f DIR`, name its folder with -f DIR, or give "
            "the bus with --bus nats://HOST:4222"
        )
    bus = _choose(buses, namespace, shown)
    if bus.options.get("embedded"):
        raise ConfigError(
            f"the bus of {shown} is embedded and not running: start `ofevents run -f {where[0]}` "
            "first"
        )
    return bus


def _choose(buses: dict[str, ResolvedBus], namespace: str, where: str) -> ResolvedBus:
    """The only one, otherwise the one named `default` that the namespace sees."""
    different = {bus.model_dump_json(): bus for bus in buses.values()}
    if len(different) == 1:
        return next(iter(different.values()))
    for name in (f"{namespace}/default", "/default"):
        if name in buses:
            return buses[name]
    raise ConfigError(
        f"{where} has several buses ({', '.join(sorted(buses))}): choose one with --bus URL"
        if buses
        else f"{where} has no bus: nothing in its files uses one"
    )
