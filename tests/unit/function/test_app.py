"""A function as a program: its environment, its sentences, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request

from tests.servers import free_port

HTTP = """
from ofevents.function import Function
function = Function("charge")

@function.on_http()
def charge(event):
    return {"got": event.value}

function.run(port=1)
"""
TOPIC = """
from ofevents.function import Function
function = Function("audit")

@function.on_topic("metrics")
async def audit(event):
    pass

function.run()
"""


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OFEVENTS") and k != "PORT"}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**clean, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def says(script: str, **environment: str) -> str:
    """Its sentence, with exit code 1."""
    process = start(script, **environment)
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert "Traceback" not in err
    return err


def test_it_listens_where_the_environment_says_and_ends_when_told() -> None:
    port = str(free_port())
    process = start(HTTP, PORT=port)
    try:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stderr.readline()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/", b"[1]", {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.read() == b'{"got":[1]}'
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_topic_needs_a_bus() -> None:
    text = says(TOPIC)
    assert text.startswith("audit: it listens on a topic and has no bus: set OFEVENTS_BUS_URL")


def test_an_environment_that_cannot_be_read() -> None:
    assert "OFEVENTS_BUS is not the JSON" in says(TOPIC, OFEVENTS_BUS="nats://x")
    assert "PORT must be a number" in says(HTTP, PORT="http")
