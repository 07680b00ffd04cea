"""20,000 random expressions and events: ours and the reference implementation agree.

What they may differ in is the table of `tests/unit/cel/oracle.py`. The seed is fixed and
printed; `OFEVENTS_ORACLE_SEED` sets another.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.unit.cel.expressions import Expressions, json_event
from tests.unit.cel.oracle import EVERY_KIND, Failure, difference, kinds, ours

pytest.importorskip("cel_expr_python", reason="the oracle is missing: pip install cel-expr-python")

SEED = int(os.environ.get("OFEVENTS_ORACLE_SEED", "20260131"))
EXAMPLES = 20_000
BYTES = 160
"""Of which the choices for one example are made; an expression that needs more ends in leaves."""


def example(source: bytes) -> tuple[str, dict[str, Any]]:
    """An expression and an event, each choice made by one byte."""
    left = iter(source)

    def pick(count: int) -> int:
        return next(left, 0) % count

    event = json_event(pick)
    return Expressions(pick).any(2 + pick(3)), event


@pytest.mark.timeout(600)
def test_the_reference_agrees() -> None:
    sys.stdout.write(f"OFEVENTS_ORACLE_SEED={SEED}\n")
    differences: list[str] = []
    outcomes: Counter[str] = Counter()
    met: Counter[str] = Counter()

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=BYTES, max_size=BYTES))
    def compare(source: bytes) -> None:
        text, event = example(source)
        got = ours(text, event)
        outcomes["failed" if isinstance(got, Failure) else "succeeded"] += 1
        met.update(kinds(text))
        found = difference(text, event, got)
        if found:
            differences.append(found)

    compare()
    total = sum(outcomes.values())
    assert not differences, "\n".join(sorted(differences, key=len)[:20])
    assert total >= EXAMPLES
    assert outcomes["succeeded"] >= 0.3 * total
    assert outcomes["failed"] >= 0.1 * total
    rare = {kind: met[kind] for kind in EVERY_KIND if met[kind] < 100}
    assert not rare, f"met less than 100 times: {rare}"
