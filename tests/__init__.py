"""The tests: unit, house, conformance, e2e, and the real servers they use."""
