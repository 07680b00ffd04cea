"""`--with`: names, output, environment, restart with a backoff, and the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psutil
import pytest

from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local.programs import Program, Programs, parse
from tests.servers import until


def test_names_come_from_the_script_and_are_numbered() -> None:
    programs = parse(
        [
            "python -u charge.py",
            "/x/.venv/bin/python3 'my dir/charge.py' --fast",
            "redis-server",
            "sh run.sh",
        ]
    )
    assert [program.name for program in programs] == ["charge", "charge-2", "redis-server", "run"]
    assert programs[1].words[1] == "my dir/charge.py"


@pytest.mark.parametrize("command", ["", "  ", "python 'unclosed"])
def test_a_command_that_is_none_is_a_sentence(command: str) -> None:
    with pytest.raises(ConfigError, match="--with"):
        parse([command])


class Running:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.pids: list[int] = []
        self.health = Health(SystemClock())

    def changed(self, pids: Sequence[int]) -> None:
        self.pids = list(pids)

    def state(self) -> str:
        return self.health.snapshots()[0].state if self.health.snapshots() else ""


@asynccontextmanager
async def running(script: str) -> AsyncIterator[Running]:
    seen, stop = Running(), asyncio.Event()
    programs = Programs(
        [Program("p", (sys.executable, "-c", script))],
        environment={"OFEVENTS_BUS_URL": "nats://x"},
        health=seen.health,
        clock=SystemClock(),
        line=lambda name, text: seen.lines.append((name, text)),
        changed=seen.changed,
    )
    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        group.create_task(programs.run(stop))
        yield seen
        stop.set()


async def test_its_lines_are_passed_on_as_it_prints_them() -> None:
    script = "import os, time; print('bus', os.environ['OFEVENTS_BUS_URL']); time.sleep(60)"
    async with running(script) as seen:
        await until(lambda: seen.lines == [("p", "bus nats://x")], seconds=40, what="the program")
        assert seen.state() == "ready"
        assert seen.health.live(0.0), "a program that is quiet is not dead"
        pids = seen.pids
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert seen.pids == []


async def test_it_is_started_again_and_said_so() -> None:
    async with running("print('once'); raise SystemExit(3)") as seen:
        await until(lambda: seen.state() == "stalled", seconds=40, what="the program")
        assert (
            seen.health.snapshots()[0].message == "ended with exit code 3; started again in 0.5 s"
        )
        await until(lambda: seen.lines == [("p", "once")] * 2, seconds=40, what="the program")


async def test_what_ignores_sigterm_is_killed_with_its_children() -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid); time.sleep(60)"
    )
    async with running(script) as seen:
        await until(lambda: bool(seen.lines), seconds=40, what="the program")
        child = int(seen.lines[0][1])
        assert psutil.pid_exists(child)
    await until(
        lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie",
        seconds=40,
        what="the program",
    )


async def test_a_command_that_does_not_exist_is_shown() -> None:
    seen, stop = Running(), asyncio.Event()
    programs = Programs(
        [Program("nope", ("/no/such/program",))],
        environment={},
        health=seen.health,
        clock=SystemClock(),
        line=lambda *_: None,
        changed=seen.changed,
    )
    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        group.create_task(programs.run(stop))
        await until(lambda: seen.state() == "stalled", seconds=40, what="the program")
        stop.set()
    assert "cannot be started: No such file" in seen.health.snapshots()[0].message
