"""The figures that the fault tests print: each with the bound that fails it.

`pytest -rP` shows them where a test passes.
"""

from __future__ import annotations

import sys


def at_most(what: str, figure: float, bound: float, unit: str = "") -> None:
    """Print the figure and its bound; AssertionError when it is above."""
    _print(what, figure, "at most", bound, unit)
    assert figure <= bound, f"{what}: {figure:.10g} {unit}, at most {bound:.10g}"


def at_least(what: str, figure: float, bound: float, unit: str = "") -> None:
    """As `at_most`, the other way."""
    _print(what, figure, "at least", bound, unit)
    assert figure >= bound, f"{what}: {figure:.10g} {unit}, at least {bound:.10g}"


def _print(what: str, figure: float, side: str, bound: float, unit: str) -> None:
    sys.stdout.write(f"{what}: {figure:,.2f} {unit} ({side} {bound:,.2f})\n")
    sys.stdout.flush()
