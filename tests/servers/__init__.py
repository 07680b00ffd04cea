"""Real servers for the tests: one async context manager per process.

Each takes a free port, waits until it answers, shows its log when it fails,
and is killed at the end. A binary that is not there raises `ServerMissing`,
which `tests/conftest.py` turns into a skip that says how to get it, or with
`--require-servers` into a failure.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HOST: Final = os.environ.get("OFEVENTS_HOST", "127.0.0.1")
"""Where the servers listen: loopback; for the Pods of the tests' node, which reach no
loopback of ours, the node's own address (tests/servers/kube_namespace.py)."""


class ServerMissing(Exception):
    """The server cannot be had here; the text says how to get it."""


class ServerFailed(Exception):
    """The server did not come up; the text ends with the tail of its log."""


def cache_dir() -> Path:
    """Where fetched and built servers are kept, outside the tree."""
    root = os.environ.get("OFEVENTS_SERVERS")
    path = Path(root) if root else Path.home() / ".cache" / "ofevents" / "servers"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make something in that folder of the cache while no other process makes anything there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find(command: str) -> Path | None:
    """A server's binary: on PATH, or where Debian puts what only root or a user of its own runs.

    Debian has a version in the path of PostgreSQL's, and its wrappers are no servers.
    """
    if command == "postgres":
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return versions[-1] if versions else None
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(found) if found else None


_CLAIMS: Final = 256
"""Of one process: a server is up long before so many others have got their ports."""
_claims: Final[deque[socket.socket]] = deque()


def free_port() -> int:
    """A TCP port that nobody listens on now, at any address, and that nobody else is told.

    A server listens seconds after its port was drawn. Among some thousand draws of the
    suites that run beside each other, one would get such a port a second time.
    """
    while True:
        port = _draw()
        if _claim(port):
            return port


def _draw() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _claim(port: int) -> bool:
    """Whether it is ours: a name that one process of a network namespace has, until it ends."""
    if sys.platform != "linux":
        return True  # there are no such names
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0ofevents-tests-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    if len(_claims) > _CLAIMS:
        _claims.popleft().close()
    return True


def free_address(*ports: int) -> str:
    """An address of the loopback at which nobody listens on these ports; Linux has them all.

    Raises:
        ServerFailed: somebody listens there at every address.
    """
    draw = random.SystemRandom()
    for _ in range(50):
        address = f"127.{draw.randint(16, 254)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}"
        if all(_free(address, port) for port in ports):
            return address
    raise ServerFailed(f"one of the ports {ports} is taken at every address")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
    return True


async def until(
    condition: Callable[[], Awaitable[bool] | bool], *, seconds: float, what: str
) -> None:
    """Poll a condition until it holds; TimeoutError names what did not come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        result = condition()
        if isinstance(result, bool) and result:
            return
        if not isinstance(result, bool) and await result:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.01)


async def listening(port: int, host: str = HOST) -> bool:
    """Whether something accepts connections on that port."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
