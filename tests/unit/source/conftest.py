"""The adapter under test in place of the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ofevents import registry
from tests.unit.source.rig import Scripted


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scripted], Scripted]:
    """Registers that adapter for every kind of source."""
    real = registry.load

    def register(scripted: Scripted) -> Scripted:
        def load(group: Any, name: str) -> Any:
            return scripted if group == "ofevents.sources" else real(group, name)

        monkeypatch.setattr(registry, "load", load)
        return scripted

    return register
