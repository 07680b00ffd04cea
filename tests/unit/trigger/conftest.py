"""Fixtures of the trigger's tests."""

from tests.unit.trigger.rig import functions

__all__ = ["functions"]
