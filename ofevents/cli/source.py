"""`ofevents source`: one event entry of an EventSource in a process of its own."""

from __future__ import annotations

from ofevents.cli.options import Format, Level, LogFormat
from ofevents.cli.worker import Host, Port, Secrets, Spec, work


def source(
    spec: Spec,
    port: Port = None,
    host: Host = "127.0.0.1",
    secrets: Secrets = None,
    log_level: Level = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Run one event entry of an EventSource from its resolved spec.

    SIGTERM stops reading, and ends once what is in hand is stored.
    """
    work("EventSource", spec, host, port, secrets, log_level, log_format)
