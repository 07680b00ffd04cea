"""The figures that the fault tests print: each with the bound that fails it.

`pytest -rP` shows them where a test passes. All are printed before the first that is
out of bounds fails the test: how far off the others are says where to look.

    with Figures() as figures:
        figures.at_most("lost", lost, 0, "events")
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self


class Figures:
    """Raises AssertionError at the end of the block, naming every figure out of bounds."""

    def __init__(self) -> None:
        self._failed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            assert not self._failed, "\n".join(self._failed)

    def at_most(self, what: str, figure: float, bound: float, unit: str = "") -> None:
        self._note(what, figure, f"at most {bound:,.10g}", figure <= bound, unit)

    def at_least(self, what: str, figure: float, bound: float, unit: str = "") -> None:
        self._note(what, figure, f"at least {bound:,.10g}", figure >= bound, unit)

    def _note(self, what: str, figure: float, bound: str, kept: bool, unit: str) -> None:
        line = f"{what}: {' '.join(filter(None, (f'{figure:,.10g}', unit)))} ({bound})"
        sys.stdout.write(line + ("\n" if kept else "  OUT OF BOUNDS\n"))
        if not kept:
            self._failed.append(line)
