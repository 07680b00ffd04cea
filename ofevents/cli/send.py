"""`ofevents send`: CloudEvents to a topic of the bus or to a webhook."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ofevents.cli.options import BusUrl, DataDir, Namespace, Output, OutputOption, Where


class Encoding(StrEnum):
    """As a subscriber's `delivery.format`."""

    binary = "binary"
    structured = "structured"
    raw = "raw"


def send(
    to: Annotated[
        str,
        typer.Option(help="EventSource/event, a topic's name, or http://... of a webhook."),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(help="CloudEvents: JSON lines, or one JSON array; - is stdin."),
    ] = None,
    data: Annotated[str | None, typer.Option("-d", "--data", help="The event's data.")] = None,
    data_file: Annotated[
        Path | None, typer.Option("--data-file", help="Its data from a file; - is stdin.")
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(help="Of the data. Default: application/json, text/plain if it is no JSON."),
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="Its type.")] = "ofevents.sent",
    source: Annotated[str, typer.Option(help="Its source.")] = "/ofevents/send",
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", help="Its id. Default: a new one. A bus stores a repeated id only once."
        ),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Its subject.")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("-a", "--attribute", help="Another attribute, as name=value; repeat it."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", help="For a webhook: a header, as name: value; repeat it."),
    ] = None,
    format_: Annotated[
        Encoding, typer.Option("--format", help="For a webhook: how the event is written.")
    ] = Encoding.binary,
    where: Where = None,
    bus: BusUrl = None,
    data_dir: DataDir = None,
    namespace: Namespace = "default",
    output: OutputOption = Output.text,
) -> None:
    """Send one CloudEvent, or a file of them, and wait until it is stored."""
    if file is not None and (data is not None or data_file is not None):
        raise typer.BadParameter("give a file of CloudEvents, or --data, not both")
    if data is not None and data_file is not None:
        raise typer.BadParameter("give --data or --data-file, not both")
    from ofevents import process, telemetry
    from ofevents.local import compose
    from ofevents.local import send as sending
    from ofevents.local.find import find

    telemetry.configure_logging("error")  # a person is told in a sentence
    if file is not None:
        events = compose.from_file(file)
    else:
        raw = compose.read(data_file) if data_file else data.encode() if data is not None else None
        extensions = compose.pairs(attribute or (), "=", "--attribute")
        events = [
            compose.one(
                raw,
                content_type,
                id=id_,
                type=type_,
                source=source,
                subject=subject,
                extensions=extensions,
            )
        ]
    if "://" in to:
        headers = compose.pairs(header or (), ":", "--header")
        work = sending.to_webhook(to, events, headers, format_.value)
    else:
        found = find(bus, where or (), data_dir, namespace)
        work = sending.to_bus(to, events, found, namespace)
    report = process.run(work)
    typer.echo(report.as_json() if output is Output.json else report.as_text())
    if report.failed:
        raise typer.Exit(1)
