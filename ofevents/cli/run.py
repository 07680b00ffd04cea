"""`ofevents run`: a folder's resources in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ofevents.cli.options import Data, Files, Format, Level, LogFormat, Output, OutputOption, Urls


def run(
    files: Files,
    watch: Annotated[
        bool, typer.Option("--watch", help="Apply a changed file without losing events.")
    ] = False,
    data: Data = None,
    programs: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="A program to start beside the bus, such as a function; may be repeated. It "
            "gets OFEVENTS_BUS and OFEVENTS_BUS_URL.",
        ),
    ] = None,
    url: Urls = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="Serve /healthz, /readyz, /status and /metrics on 127.0.0.1; 0 takes a free "
            "port. Default: off.",
        ),
    ] = None,
    daprd: Annotated[
        Path | None,
        typer.Option(
            "--daprd",
            help="The daprd program to run beside a dapr bus. Default: on PATH or in ~/.dapr/bin.",
        ),
    ] = None,
    output: OutputOption = Output.text,
    log_level: Level = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Run EventSources and Triggers from YAML files, on an embedded bus if there is none.

    Shows what runs, then each event's way. Ctrl-C stops cleanly, a second one at once.
    """
    from ofevents import process
    from ofevents.cli.reading import checked
    from ofevents.local.run import Options, start

    resolution = checked(files, url or [], output)
    options = Options(
        files=tuple(files),
        urls=tuple(url or ()),
        data=data,
        watch=watch,
        programs=tuple(programs or ()),
        port=port,
        daprd=daprd,
        json=output is Output.json,
        log_level=log_level.value if log_level else None,
        log_json=log_format is LogFormat.json,
    )
    raise typer.Exit(process.run(start(options, resolution)))
