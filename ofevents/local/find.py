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
from ofevents.local import datadir
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
    given: str | None, files: Sequence[Path], data: Path | None, namespace: str
) -> ResolvedBus:
    """The bus to talk to; `given` is an address or an EventBus's name.

    Raises:
        ConfigError: there is none, or several and it is not said which.
    """
    if given is not None and "://" in given:
        return ResolvedBus(driver="jetstream", options={"url": given})
    where = list(files) or [Path.cwd()]
    directory = data or datadir.beside(where[0])
    running: dict[str, ResolvedBus] = {}
    if datadir.held(directory) and (state := datadir.read(directory)) is not None:
        running = {name: ResolvedBus.model_validate(bus) for name, bus in state.buses.items()}
    if given is None and len(running) == 1:
        return next(iter(running.values()))
    from ofevents.local import folder  # here: reading resources costs a fifth of a second

    # Those that run are embedded no more: they have an address.
    buses = {**folder.buses(where), **running}
    bus = _choose(buses, given, namespace, where, directory)
    if bus.options.get("embedded"):
        raise ConfigError(
            f"EventBus {bus.name} of {_shown(where)} is embedded and not running: start "
            f"`ofevents run -f {where[0]}` first"
        )
    return bus


def _choose(
    buses: dict[str, ResolvedBus],
    given: str | None,
    namespace: str,
    where: Sequence[Path],
    directory: Path,
) -> ResolvedBus:
    """The one of that name; unnamed the only one, otherwise `default`."""
    if given is None and len(buses) == 1:
        return next(iter(buses.values()))
    for name in (f"{namespace}/{given or 'default'}", given or "default"):
        if name in buses:
            return buses[name]
    known = ", ".join(sorted(buses))
    if not buses:
        raise ConfigError(
            f"no bus is found: no `ofevents run` holds {directory}, and nothing in "
            f"{_shown(where)} uses an EventBus; start `ofevents run -f DIR`, name its folder with "
            "-f DIR, or give the bus with --bus nats://HOST:4222"
        )
    if given is not None:
        raise ConfigError(
            f"--bus {given!r} is no address such as nats://HOST:4222 and none of the "
            f"buses of {_shown(where)}: {known}"
        )
    raise ConfigError(f"{_shown(where)} has several buses, choose one with --bus: {known}")


def _shown(where: Sequence[Path]) -> str:
    return ", ".join(map(str, where))
