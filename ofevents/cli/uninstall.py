"""`ofevents uninstall`: what `ofevents install` made goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ofevents.cli.cluster import At, Context, Kubeconfig, Progress, Timeout, ask, console, seconds
from ofevents.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from ofevents.cluster.client import Api


def uninstall(
    namespace: At = "ofevents-system",
    crds: Annotated[
        bool,
        typer.Option("--crds", help="Remove the CRDs, and every EventSource and Trigger, too."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Timeout = "2m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.text,
) -> None:
    """Remove the controller from a cluster.

    EventSources, Triggers and their workers stay as they are, unless --crds is given.
    """
    limit = seconds(timeout)
    progress = Progress(output)

    async def work(api: Api) -> None:
        from ofevents.install import remove
        from ofevents.install.survey import counted, resources

        found = await remove.find(api, namespace, crds=crds)
        counts = await resources(api)
        stored = counted(counts)
        _tell(progress, crds, stored, counts)
        if dry_run:
            remove.rehearse(found, progress.step, crds=crds)
            return
        if crds and counts and not yes:
            _confirm(stored, output)
        await remove.uninstall(api, found, progress.step, crds=crds, seconds=limit)
        progress.say(f"ofevents is gone from {namespace}", uninstalled=True, namespace=namespace)

    ask(kubeconfig, context, work)


def _tell(progress: Progress, crds: bool, stored: str, counts: dict[str, int]) -> None:
    """What becomes of the resources."""
    if not counts:
        return
    sentence = (
        f"{stored} in the whole cluster would go with the CRDs, and so would their workers"
        if crds
        else f"{stored} stay, and their workers go on; nobody looks after them until ofevents "
        "is installed again"
    )
    progress.say(sentence, resources=counts, removed=crds)


def _confirm(stored: str, output: Output) -> None:
    from ofevents.errors import ConfigError

    if output is Output.json or not console().is_terminal:
        raise ConfigError(f"--crds would remove {stored}: say --yes as well")
    typer.confirm(f"Remove {stored}?", abort=True)
