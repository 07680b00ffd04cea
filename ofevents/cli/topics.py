"""`ofevents topics`: what the bus holds, and who is how far behind."""

from __future__ import annotations

import typer

from ofevents.cli.options import BusUrl, Data, Namespace, Output, OutputOption, Where


def topics(
    where: Where = None,
    bus: BusUrl = None,
    data: Data = None,
    namespace: Namespace = "default",
    output: OutputOption = Output.text,
) -> None:
    """List topics, inboxes, dead letters and consumers with their counts."""
    from ofevents import process, telemetry
    from ofevents.local.find import find
    from ofevents.local.inventory import as_json, as_tables, inspect

    telemetry.configure_logging("error")  # a person is told in a sentence
    report = process.run(inspect(find(bus, where or (), data, namespace)))
    if output is Output.json:
        typer.echo(as_json(report, namespace))
    else:
        as_tables(report, namespace)
