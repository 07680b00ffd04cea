"""`ofevents trigger`: one worker of a Trigger in a process of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from ofevents.cli.options import Format, Level, LogFormat
from ofevents.cli.worker import Host, Port, Secrets, Spec, work


def trigger(
    spec: Spec,
    port: Port = None,
    host: Host = "127.0.0.1",
    secrets: Secrets = None,
    log_level: Level = None,
    log_format: Format = LogFormat.text,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove",
            help="Take its position, inboxes, dead letters and state off the bus instead, as "
            "deletionPolicy says; ready once that is done. For when no worker of it runs.",
        ),
    ] = False,
) -> None:
    """Run one worker of a Trigger from its resolved spec; several share the work.

    SIGTERM takes no more events, and ends once those in hand are settled.
    """
    work("Trigger", spec, host, port, secrets, log_level, log_format, remove=remove)
