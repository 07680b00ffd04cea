"""The end of a process: asked once, told twice, or not able to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

SCRIPT = """
import asyncio
from ofevents import process

async def main():
    stop = process.Stop(within={within})
    stop.at_once.append(lambda: print("killed", flush=True))
    with stop.listening():
        print("up", flush=True)
        await stop.event.wait()
        print("asked", flush=True)
        await asyncio.sleep({hangs})
    return "done"

print(process.run(main()), flush=True)
"""


def start(*, within: float | None, hangs: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(within=within, hangs=hangs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        code = process.wait(40)
    finally:
        process.kill()
    with process.stdout as out, process.stderr as err:
        return code, out.read(), err.read()


def test_asked_once_it_ends_as_it_likes() -> None:
    assert end(start(within=5, hangs=0)) == (0, "done\n", "")


def test_the_second_signal_ends_it_at_once() -> None:
    process = start(within=None, hangs=60)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "killed\n", "")


def test_what_hangs_is_ended_in_time() -> None:
    began = time.monotonic()
    code, out, err = end(start(within=0.3, hangs=60))
    assert (code, out) == (1, "killed\n")
    assert "did not stop within 0.3 s" in err
    assert time.monotonic() - began < 40  # with its start; it would hang for 60
