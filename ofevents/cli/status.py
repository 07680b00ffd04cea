"""`ofevents status`: what is installed in a cluster, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ofevents.cli.cluster import At, Context, Kubeconfig, ask, console
from ofevents.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from ofevents.install.survey import Survey


def status(
    namespace: At = "ofevents-system",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.text,
) -> None:
    """Show what is installed; exit code 1 when something is missing or not up."""
    from ofevents.install.survey import survey

    found = ask(kubeconfig, context, lambda api: survey(api, namespace))
    if output is Output.json:
        import dataclasses
        import json

        answer = {
            "ok": found.ok,
            "namespace": found.namespace,
            "image": found.image,
            "active": found.active,
            "objects": [dataclasses.asdict(row) for row in found.rows],
        }
        typer.echo(json.dumps(answer, ensure_ascii=False))
    else:
        _show(found)
    raise typer.Exit(0 if found.ok else 1)


def _show(found: Survey) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("KIND", "NAMESPACE", "NAME", "STATE"):
        table.add_column(column, no_wrap=True)
    colours = {True: "green", False: "red", None: ""}
    for row in found.rows:
        table.add_row(row.kind, row.namespace, row.name, row.state, style=colours[row.ok])
    # Names are long and stay whole, also where the output is a file of no width.
    wide = console()
    wide.width = max(wide.width, 1000)
    wide.width = wide.measure(table).maximum
    wide.print(table)
    active = f"active: {found.active}" if found.active else "no controller holds the lease"
    verdict = "all is well" if found.ok else "something is missing or not up"
    console().print(f"\n{found.image or 'no image'} in {found.namespace}, {active}: {verdict}")
