"""Runs one event entry of an EventSource: emit = stamp + filter + publish."""
