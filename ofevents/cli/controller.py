"""`ofevents controller`: the same YAML on Kubernetes, one Deployment for each worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ofevents.cli.options import Format, Level, LogFormat
from ofevents.cli.worker import Host, Port


def controller(
    image: Annotated[str, typer.Option(help="Image of the workers; the controller's own.")],
    namespace: Annotated[
        list[str] | None,
        typer.Option("-n", "--namespace", help="Look at this namespace only; may be repeated."),
    ] = None,
    pull_policy: Annotated[
        str, typer.Option(help="imagePullPolicy of the workers.")
    ] = "IfNotPresent",
    lease_namespace: Annotated[
        str, typer.Option(help="Namespace of the Lease that says which controller writes.")
    ] = "ofevents-system",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="Default: the Pod's service account, else KUBECONFIG."),
    ] = None,
    admission_port: Annotated[
        int | None,
        typer.Option(help="Serve the validating webhook there. Default: off; Pods give 9443."),
    ] = None,
    admission_url: Annotated[
        str | None,
        typer.Option(help="Where the API server reaches it, instead of by its Service."),
    ] = None,
    port: Port = None,
    host: Host = "127.0.0.1",
    log_level: Level = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Make the EventSources and Triggers of a cluster run, and tell the truth in status.

    Of several, one works: the holder of a Lease. Another takes over within 15 seconds.
    """
    from ofevents import process, telemetry
    from ofevents.controller.admission import Admission
    from ofevents.controller.render import Platform
    from ofevents.controller.run import Options, run

    level = log_level.value if log_level else "info"
    telemetry.configure_logging(level, json=log_format is LogFormat.json)
    admission = None
    if admission_port is not None:
        admission = Admission(
            lease_namespace,
            port=admission_port,
            url=admission_url,
            watched=tuple(namespace or ()),
        )
    options = Options(
        platform=Platform(image=image, pull_policy=pull_policy),
        namespaces=tuple(namespace or ()),
        lease_namespace=lease_namespace,
        kubeconfig=kubeconfig,
        host=host,
        port=port,
        admission=admission,
    )
    process.run(run(options))
