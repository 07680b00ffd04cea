"""What `ofevents run` imports: the libraries of other extras may be missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

MISSING = "aio_pika aiohttp aiomqtt cryptography dapr grpc kopf kubernetes_asyncio paho redis"
"""What `pip install 'ofevents[local]'` does not bring."""
SCRIPT = f"""
import sys
sys.modules.update(dict.fromkeys({MISSING.split()!r}))
import ofevents.cli.run, ofevents.local.run
"""


@pytest.mark.timeout(120)  # a new machine has nothing compiled
def test_a_run_without_the_libraries_of_other_extras() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
