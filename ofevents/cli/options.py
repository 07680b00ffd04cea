"""The options that several verbs share, each written once.

Imported by every verb, so it imports nothing but typer.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """Who reads what is printed."""

    text = "text"
    json = "json"


class LogLevel(StrEnum):
    """As a resource's logLevel."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    text = "text"
    json = "json"


Files = Annotated[
    list[Path],
    typer.Option("-f", "--file", help="A YAML file, or a folder of them; may be repeated."),
]
Where = Annotated[
    list[Path] | None,
    typer.Option(
        "-f",
        "--file",
        help="The folder or files whose bus it is (also the one that `ofevents run` "
        "holds now). Default: the current folder.",
    ),
]
BusUrl = Annotated[
    str | None,
    typer.Option("--bus", help="Address (nats://127.0.0.1:4222) or name of the EventBus."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", "--data-dir", help="The data directory. Default: .ofevents beside the first -f."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The data directory. Default: .ofevents beside the first -f."),
]
"""Where `--data` is the event's."""
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="Where a sink's ref is reached: name=URL or namespace/name=URL."),
]
Namespace = Annotated[
    str, typer.Option("-n", "--namespace", help="Namespace of names without one.")
]
OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="json: one JSON object a line, for programs.")
]
Level = Annotated[
    LogLevel | None,
    typer.Option("--log-level", help="Overrides the resources' logLevel. Logs go to stderr."),
]
Format = Annotated[LogFormat, typer.Option("--log-format", help="json for log collectors.")]
