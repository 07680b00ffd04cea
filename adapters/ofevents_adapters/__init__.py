"""The way in and the way out: outside technologies, each found by its entry point."""
