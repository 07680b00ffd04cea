"""A wall clock of its own for a process under test, by libfaketime; never the machine's.

    clock = FakeClock(folder / "clock")
    ... start the process with `clock.environment` ...
    clock.jump(-3600)

Only the wall clock is moved: what the process measures with the monotonic clock goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.servers import ServerMissing

PACKAGE: Final = "libfaketime"
"""Debian's."""
_PATTERN: Final = "usr/lib/*/faketime/libfaketimeMT.so.1"


def library() -> Path:
    """The library that is loaded before all others.

    Raises:
        ServerMissing: it is not installed.
    """
    for found in sorted(Path("/").glob(_PATTERN)):
        return found
    raise ServerMissing(f"clock jumps need libfaketime: apt-get install {PACKAGE}")


class FakeClock:
    """One process's wall clock, or that of several. Raises ServerMissing, as `library`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """From within a second on it is so far from the machine's clock."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}")
        new.rename(self._file)
