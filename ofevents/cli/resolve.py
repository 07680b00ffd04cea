"""`ofevents resolve`: the specs that `ofevents source` and `ofevents trigger` run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ofevents.cli.options import BusUrl, Data, Files, Output, OutputOption, Urls


def resolve(
    files: Files,
    name: Annotated[
        str | None,
        typer.Option(help="Only this resource, or one entry: shop, shop/orders."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Write a file for each worker into this folder, and print their paths."),
    ] = None,
    url: Urls = None,
    bus: BusUrl = None,
    data: Data = None,
    output: OutputOption = Output.text,
) -> None:
    """Write each worker's resolved spec: every reference, default and secret in place.

    They contain the secrets they name: files are readable by you alone.
    """
    from ofevents.cli.reading import checked
    from ofevents.local import specs

    resolution = checked(files, url or [], output)
    found = specs.select(specs.reachable(resolution.workers, files, bus, data), name)
    if write is not None:
        for path in specs.write(found, write, json=output is Output.json):
            typer.echo(str(path))
        return
    typer.echo(specs.dump(found, json=output is Output.json), nl=False)
