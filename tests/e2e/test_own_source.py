"""The page "your own source in 40 lines" is true: installed as a package of its own, it runs.

The example is taken out of the page, built and installed by pip into a folder beside
us, and found there by its entry point alone.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Ofevents, call
from tests.servers import free_port, until
from tests.servers.sink import Sink

# pip, too, which its first test waits for, may take half a minute.
pytestmark = pytest.mark.timeout(300)

PAGE = (ROOT / "adapters/README.md").read_text().partition("\n## Your own source")[2]
MOST_LINES = 42
"""Of the example, its docstring and imports included."""


def block(language: str) -> str:
    """The page's one block in that language."""
    (found,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.M | re.S)
    return textwrap.dedent(found)


def test_it_is_as_short_as_it_says() -> None:
    assert len(block("python").splitlines()) <= MOST_LINES


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds the example as pip installs it."""
    package = tmp_path_factory.mktemp("package")
    (package / "queue_source.py").write_text(block("python"))
    (package / "pyproject.toml").write_text(block("toml"))
    folder = tmp_path_factory.mktemp("installed")
    command = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    done = subprocess.run(
        [sys.executable, *command, "--target", str(folder), str(package)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Queue:
    """The example's server: keeps each line until its number has come back."""

    def __init__(self, lines: dict[int, bytes]) -> None:
        self.owed = dict(lines)
        self.port = free_port()
        self.clients: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        for number, data in list(self.owed.items()):
            writer.write(b"%d %s\n" % (number, data))
        while line := await reader.readline():
            self.owed.pop(int(line), None)
        writer.close()

    def hang_up(self) -> None:
        for writer in self.clients:
            writer.close()
        self.clients.clear()


@asynccontextmanager
async def serving(queue: Queue) -> AsyncIterator[Queue]:
    server = await asyncio.start_server(queue.serve, "127.0.0.1", queue.port)
    try:
        yield queue
    finally:
        queue.hang_up()
        server.close()


def resources(folder: Path, queue: Queue, sink: Sink) -> Path:
    """The page's EventSource, and a Trigger for what it reads."""
    path = folder / "shop.yaml"
    source = block("yaml").replace("port: 7000", f"port: {queue.port}")
    path.write_text(
        source
        + f"""---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: charge}}
spec:
  eventBus: default
  inputs: {{orders: {{eventSource: shop, event: orders}}}}
  subscribers: [{{name: charge, sink: {{uri: "{sink.url}"}}}}]
"""
    )
    return path


async def test_a_package_of_its_own_brings_a_source(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    lines = {number: b'{"amount": %d}' % number for number in range(1, 51)}
    async with serving(Queue(lines)) as queue, Sink() as sink:
        files = resources(tmp_path, queue, sink)
        code, printed = await call("validate", files)
        assert code == 0, printed
        command = ("run", "-f", files, "--data-dir", tmp_path / "data")
        async with Ofevents(tmp_path, *command) as run:
            await until(lambda: not queue.owed, seconds=90, what="every line is given back")
            queue.owed[51] = b'{"amount": 51}'
            queue.hang_up()  # it is connected again, and what was not given back comes again
            await until(lambda: not queue.owed, seconds=60, what="the queue is read again")
            # Given back is what the bus has: the calls come after that.
            sent = {str(number) for number in (*lines, 51)}
            await until(lambda: sent <= set(sink.ids), seconds=60, what="every line is delivered")
            assert await run.interrupt() == 0  # so that its nats-server ends, too


async def test_a_mistake_in_its_spec_is_told_with_its_place(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    async with Sink() as sink:
        files = resources(tmp_path, Queue({}), sink)
        files.write_text(files.read_text().replace("port: ", "prot: ", 1))
        code, printed = await call("validate", files)
    assert code == 1
    assert "spec.custom.orders.spec" in printed and "shop.yaml:7" in printed


async def test_without_the_package_the_name_is_unknown(tmp_path: Path) -> None:
    async with Sink() as sink:
        _, printed = await call("validate", resources(tmp_path, Queue({}), sink))
    assert "no source 'queue'" in printed and "spec.custom.orders" in printed
