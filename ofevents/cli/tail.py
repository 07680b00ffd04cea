"""`ofevents tail`: a topic's events as they come, without taking them from anybody."""

from __future__ import annotations

from typing import Annotated

import typer

from ofevents.cli.options import BusUrl, Data, Namespace, Output, OutputOption, Where


def tail(
    topic: Annotated[
        str, typer.Argument(help="EventSource/event, or a name that `ofevents topics` shows.")
    ],
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Only these: CEL, such as event.data.amount > 100."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Begin that long ago, such as 1h, or with `all` there is."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for what comes, or end.")
    ] = True,
    where: Where = None,
    bus: BusUrl = None,
    data: Data = None,
    namespace: Namespace = "default",
    output: OutputOption = Output.text,
) -> None:
    """Show the events of a topic live; -o json prints CloudEvents that `send` can read."""
    from ofevents import process, telemetry
    from ofevents.bus import topics
    from ofevents.local import tail as tailing
    from ofevents.local.find import find

    telemetry.configure_logging("error")  # a person is told in a sentence
    full = topics.parse(topic, namespace)
    keep = tailing.condition(filter_)
    begin = tailing.begin(since, follow)
    found = find(bus, where or (), data, namespace)
    show = tailing.as_json if output is Output.json else tailing.as_text
    work = tailing.tail(
        found, full, keep, begin, follow, lambda one: typer.echo(show(one)), namespace=namespace
    )
    process.run(work)
