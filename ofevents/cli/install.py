"""`ofevents install`: the controller, its CRDs and its rights, into a cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ofevents.cli.cluster import At, Context, Kubeconfig, Progress, Timeout, ask, console, seconds
from ofevents.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from ofevents.cluster.client import Api
    from ofevents.install.parts import Object
    from ofevents.install.settings import Settings


class FailurePolicy(StrEnum):
    """As in a ValidatingWebhookConfiguration."""

    ignore = "Ignore"
    fail = "Fail"


def install(
    image: Annotated[
        str | None,
        typer.Option(
            "--image", help="Of the controller and the workers. Default: ofevents:VERSION."
        ),
    ] = None,
    namespace: At = "ofevents-system",
    watch: Annotated[
        list[str] | None,
        typer.Option(
            "--watch-namespace",
            help="Look after this namespace only, and have rights there only; may be repeated.",
        ),
    ] = None,
    replicas: Annotated[int, typer.Option(help="Controllers: one works, others wait.")] = 2,
    admission: Annotated[bool, typer.Option(help="Check resources before they are stored.")] = True,
    failure_policy: Annotated[
        FailurePolicy,
        typer.Option(help="While no controller answers: store unchecked, or refuse changes."),
    ] = FailurePolicy.ignore,
    prometheus_rule: Annotated[bool, typer.Option("--prometheus-rule", help="Add alerts.")] = False,
    service_monitor: Annotated[
        bool, typer.Option("--service-monitor", help="Have Prometheus scrape it all.")
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Add a dashboard for Grafana's sidecar.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Overwrite objects that something else has made."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the controller is up.")] = True,
    timeout: Timeout = "5m",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be applied; needs no cluster.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.text,
) -> None:
    """Install the controller into a cluster, or change how it is installed.

    The same command again changes what is different. Objects of somebody else are left alone.
    """
    from ofevents.install.objects import objects
    from ofevents.install.settings import IMAGE, Admission, Monitoring, Settings

    settings = Settings(
        namespace=namespace,
        image=IMAGE if image is None else image,
        replicas=replicas,
        namespaces=tuple(dict.fromkeys(watch or ())),
        admission=Admission(admission, failure_policy.value),
        monitoring=Monitoring(prometheus_rule, service_monitor, dashboard),
    )
    if dry_run:
        _print(objects(settings), output)
        return
    limit = seconds(timeout) if wait else 0.0
    progress = Progress(output)
    ask(kubeconfig, context, lambda api: _install(api, settings, progress, take_over, limit))
    progress.say(
        f"ofevents is installed in {namespace}; `ofevents status` says how it is",
        installed=True,
        namespace=namespace,
        waited=wait,
    )


async def _install(
    api: Api, settings: Settings, progress: Progress, take_over: bool, limit: float
) -> None:
    """Apply, then wait for up to `limit` seconds; 0 does not wait."""
    from ofevents.install import apply

    await apply.install(api, settings, progress.step, take_over=take_over)
    if not limit:
        return
    if progress.json:
        await apply.wait(api, settings, limit)
        return
    with console().status("waiting until the controller is up"):
        await apply.wait(api, settings, limit)


def _print(made: list[Object], output: Output) -> None:
    if output is Output.json:
        import json

        typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
        return
    from ofevents.install.text import as_stream

    typer.echo(as_stream(made), nl=False)
