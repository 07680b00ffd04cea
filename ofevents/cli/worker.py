"""What `ofevents source` and `ofevents trigger` share: their options and their run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ofevents.cli.options import LogFormat, LogLevel

Spec = Annotated[
    Path,
    typer.Option(
        "-f",
        "--file",
        help="The resolved spec, YAML or JSON, as `ofevents resolve` writes it.",
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Serve /healthz, /readyz, /status and /metrics there; 0 takes a free port. "
        "Default: off, so that several workers run on one machine; pods give --port 9090.",
    ),
]
Secrets = Annotated[
    Path | None,
    typer.Option(
        envvar="OFEVENTS_SECRETS",
        help="Folder with a file NAME/KEY for each key of a Secret that the spec names. "
        "Default: /etc/ofevents/secrets, where pods have it.",
    ),
]
Host = Annotated[
    str, typer.Option(help="Address of the probes and metrics; pods give --host 0.0.0.0.")
]


def work(
    kind: Literal["EventSource", "Trigger"],
    spec: Path,
    host: str,
    port: int | None,
    secrets: Path | None,
    log_level: LogLevel | None,
    log_format: LogFormat,
    *,
    remove: bool = False,
) -> None:
    """Read the spec and run its worker until a signal."""
    from ofevents import process, telemetry
    from ofevents.local.single import read, run

    resolved = read(spec, kind, secrets)
    level = log_level.value if log_level else resolved.log_level
    telemetry.configure_logging(level, json=log_format is LogFormat.json)
    process.run(run(resolved, host=host, port=port, remove=remove))
