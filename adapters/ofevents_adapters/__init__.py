"""The way in: one module per outside technology, each found by its entry point."""
