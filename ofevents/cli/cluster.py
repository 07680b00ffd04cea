"""What `install`, `uninstall` and `status` share: the options that name a cluster, and how
its answers become sentences.

Imports nothing but typer until a verb runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ofevents.cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console

    from ofevents.cluster.client import Api
    from ofevents.install.apply import Step

T = TypeVar("T")

At = Annotated[
    str, typer.Option("-n", "--namespace", help="The namespace that the controller is in.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Default: KUBECONFIG, or ~/.kube/config."),
]
Context = Annotated[
    str | None, typer.Option("--context", help="Of the kubeconfig. Default: its current one.")
]
Timeout = Annotated[
    str, typer.Option("--timeout", help="How long to wait, such as 90s or 5m.", metavar="DURATION")
]


def seconds(text: str) -> float:
    """Of --timeout; a wrong one is a wrong option."""
    from ofevents.api.scalars import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from error


def ask(kubeconfig: Path | None, context: str | None, work: Callable[[Api], Awaitable[T]]) -> T:
    """Log in to the cluster and do the work.

    Raises:
        ConfigError: also when the cluster does not answer.
    """
    from ofevents import process
    from ofevents.cluster.client import Api
    from ofevents.errors import ConfigError, TemporaryError

    async def run() -> T:
        async with Api(kubeconfig, context) as api:
            return await work(api)

    if kubeconfig is not None and not kubeconfig.is_file():
        raise ConfigError(f"there is no kubeconfig {kubeconfig}")
    # The client logs, without a handler, what its exception says again.
    logging.getLogger("kubernetes_asyncio").addHandler(logging.NullHandler())
    try:
        return process.run(run())
    except TemporaryError as error:
        raise ConfigError(f"{error}; is the cluster up, and is it the right one?") from error


class Progress:
    """Tells each step as it is done: to a person, or as a JSON object a line."""

    def __init__(self, output: Output) -> None:
        self.json = output is Output.json

    def step(self, step: Step) -> None:
        """One object was looked after."""
        if self.json:
            metadata = step.object["metadata"]
            self._line(
                outcome=step.outcome,
                kind=step.object["kind"],
                namespace=metadata.get("namespace", ""),
                name=metadata["name"],
            )
            return
        from rich.text import Text

        from ofevents.install.kinds import title

        colours = {"created": "green", "changed": "green", "removed": "yellow"}
        outcome = Text(f"{step.outcome:>10}", style=colours.get(step.outcome, "dim"))
        console().print(Text.assemble(outcome, " ", title(step.object)))

    def say(self, sentence: str, **fields: Any) -> None:
        """For a person the sentence, for a program the fields."""
        if self.json:
            self._line(**fields)
        else:
            console().print(sentence)

    def _line(self, **fields: Any) -> None:
        typer.echo(json.dumps(fields, ensure_ascii=False))


def console() -> Console:
    """Standard output; names stay one word."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True, emoji=False)
