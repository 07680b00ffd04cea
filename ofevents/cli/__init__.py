"""The command line: one file a verb, and this one that wires them.

A verb's module imports typer alone and the rest of ofevents when it runs, so
that `ofevents --help` answers at once. A user's mistake ends with a sentence and
exit code 1, never with a traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ofevents.cli import (
    controller,
    crds,
    install,
    resolve,
    run,
    send,
    source,
    status,
    tail,
    topics,
    trigger,
    uninstall,
    validate,
)
from ofevents.errors import ConfigError

EPILOG = (
    "Exit codes: 0 done; 1 the resources, the bus or the answer is wrong (a sentence says "
    "what to do); 2 wrong options; 130 interrupted."
)

app = typer.Typer(
    name="ofevents",
    help="Events in YAML: EventSources, an EventBus and Triggers, on a laptop or a cluster.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    run.run,
    validate.validate,
    send.send,
    tail.tail,
    topics.topics,
    resolve.resolve,
    source.source,
    trigger.trigger,
    controller.controller,
    crds.crds,
    install.install,
    uninstall.uninstall,
    status.status,
):
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        from ofevents import __version__

        typer.echo(f"ofevents {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of every verb."""


def main() -> None:
    """The console script `ofevents`."""
    try:
        app()
    except ConfigError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is left to say to anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
