"""A Pod's process that ends by itself while somebody ends it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil

from tests.servers import until
from tests.servers.kube_pod import Image, PodProcess

POD = {"metadata": {"name": "web", "namespace": "default"},
       "spec": {"containers": [{"name": "web", "image": "web"}]}}  # fmt: skip


async def reported(pod: Any, status: dict[str, Any]) -> bool:
    return True


def waited_for(process: psutil.Process) -> None:
    """Keep the loop busy until a thread has waited for it, which the loop does not hear."""
    deadline = time.monotonic() + 2
    while process.is_running() and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_one_that_has_just_ended_can_be_killed(tmp_path: Path) -> None:
    image = Image(("sleep", "1000"))
    pod = PodProcess(
        POD, image, tmp_path, "127.0.0.1", find=lambda *_: None, report=reported, pause=1.0
    )
    running = asyncio.create_task(pod.run())
    await until(lambda: pod.pid is not None, seconds=20, what="it runs")
    process = psutil.Process(pod.pid)
    process.kill()
    waited_for(process)
    assert pod.pid == process.pid
    pod.kill()
    pod.end(0)
    await asyncio.wait_for(running, 20)
