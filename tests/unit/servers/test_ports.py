"""A port of a test is told to nobody else before its server listens there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import servers
from tests.servers import free_port

OWN = 1_000_000 + 10 * os.getpid()
"""No ports: other runs of these tests do not draw them."""
OTHER = "import sys; from tests import servers; print(servers._claim(int(sys.argv[1])), flush=True)"
"""Another run of tests, which has a port and has not yet started its server."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are claimed on Linux alone")


def test_none_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([OWN, OWN, OWN + 1])
    monkeypatch.setattr(servers, "_draw", lambda: next(drawn))
    assert [free_port(), free_port()] == [OWN, OWN + 1]


def test_none_that_another_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = OWN + 2
    with subprocess.Popen(
        [sys.executable, "-c", f"{OTHER}; input()", str(taken)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        drawn = iter([taken, OWN + 3])
        monkeypatch.setattr(servers, "_draw", lambda: next(drawn))
        assert free_port() == OWN + 3
        other.communicate("\n")
    drawn = iter([taken])  # it has ended
    assert free_port() == taken


def test_as_many_as_a_whole_run_asks_for() -> None:
    assert all(0 < free_port() < 1 << 16 for _ in range(2000))
    assert len(servers._claims) <= servers._CLAIMS
