"""The programs of `ofevents run --with "COMMAND"`: functions beside the bus.

A program is started once the bus is up, with the bus in its environment, and
shown as a row of the table; its output lines are passed on with its name in
front. It is started again with a backoff when it dies, and ended at the end.

Each one leads a session of its own: a Ctrl-C in the terminal reaches `ofevents
run` alone, which lets the triggers deliver to the functions before it ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.health import Health

KIND = "Program"
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 30.0
STEADY = 10.0
"""Seconds a program must have run for the backoff to begin anew."""
GRACE = 1.5
"""Seconds between SIGTERM and SIGKILL."""
_LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """One `--with`: its name (of the script or the command), and its words."""

    name: str
    words: tuple[str, ...]


def parse(commands: Sequence[str]) -> list[Program]:
    """The programs of the `--with` options; equal names are numbered.

    Raises:
        ConfigError: a command is empty or its quotes do not close.
    """
    programs: list[Program] = []
    for command in commands:
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise ConfigError(f"--with {command!r} cannot be read: {error}") from error
        if not words:
            raise ConfigError('--with needs a command, such as --with "python charge.py"')
        stem = _name(words)
        taken = {program.name for program in programs}
        number = next(n for n in range(1, len(commands) + 1) if _numbered(stem, n) not in taken)
        programs.append(Program(_numbered(stem, number), words))
    return programs


def _name(words: Sequence[str]) -> str:
    """The script that an interpreter runs, otherwise the command."""
    first, *rest = words
    if Path(first).name.startswith(("python", "node", "ruby", "sh", "bash")):
        for word in rest:
            if not word.startswith("-"):
                return Path(word).stem
    return Path(first).stem


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


class Programs:
    """Runs programs until stopped.

    Args:
        environment: added to ours for each of them.
        line: called with (program, text) for each line they print.
        changed: called with the pids that run, whenever one starts or ends.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        environment: Mapping[str, str],
        health: Health,
        clock: Clock,
        line: Callable[[str, str], None],
        changed: Callable[[Sequence[int]], None],
    ) -> None:
        self._programs = programs
        # A program's lines must come when it prints them, not when its buffer is full.
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._health = health
        self._clock = clock
        self._line = line
        self._changed = changed
        self._running: dict[int, asyncio.subprocess.Process] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Keep all of them running until `stop`, then end them within `GRACE`."""
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(program)) for program in self._programs]
            await stop.wait()
            for keeper in keepers:
                keeper.cancel()

    def kill(self) -> None:
        """End them at once, without a word; for a second Ctrl-C."""
        for pid in self._running:
            _signal(pid, signal.SIGKILL)

    async def _keep(self, program: Program) -> None:
        backoff = FIRST_BACKOFF
        while True:
            began = self._clock.monotonic()
            try:
                outcome = await self._once(program)
            except OSError as error:
                outcome = f"cannot be started: {error.strerror or error}"
            if self._clock.monotonic() - began > STEADY:
                backoff = FIRST_BACKOFF
            health = self._health.worker(KIND, program.name)
            health.stalled("Ended", f"{outcome}; started again in {backoff:g} s")
            with health.waiting("its next start"):
                await self._clock.sleep(backoff)
            backoff = min(backoff * 2, LAST_BACKOFF)

    async def _once(self, program: Program) -> str:
        """Run it until it ends by itself, and say how; ended by us when cancelled."""
        process = await asyncio.create_subprocess_exec(
            *program.words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        self._running[process.pid] = process
        self._changed(list(self._running))
        health = self._health.worker(KIND, program.name)
        health.ready(f"pid {process.pid}")
        try:
            with health.waiting("its next line"):  # a quiet program is not a dead one
                await self._pass_on(program, process)
                return _outcome(await process.wait())
        finally:
            await _end(process)
            del self._running[process.pid]
            self._changed(list(self._running))

    async def _pass_on(self, program: Program, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:  # a line over the limit: what was read of it is gone
                self._line(program.name, f"(a line over {_LINE_LIMIT} bytes was left out)")
                continue
            if not raw:
                return
            self._line(program.name, raw.decode(errors="replace").rstrip())


def _outcome(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to its session, SIGKILL to whatever of it is left after `GRACE`."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            pass  # it had its time
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(session: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)
