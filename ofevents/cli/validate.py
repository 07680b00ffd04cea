"""`ofevents validate`: every mistake in YAML files, before anything runs.

Reads and resolves exactly as `ofevents run` does, builds each worker (`local/rehearse.py`)
and starts none.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ofevents.resolve import Problem, Resolution


class Output(StrEnum):
    """Who reads what is printed."""

    text = "text"
    json = "json"


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(help="YAML files or folders; - reads from stdin.", show_default=False),
    ],
    output: Annotated[
        Output, typer.Option("-o", "--output", help="json: one JSON object, for programs.")
    ] = Output.text,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", help="Where a sink's ref is reached: name=URL or namespace/name=URL."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
) -> None:
    """Check EventSources, EventBuses and Triggers: all errors at once, with file and line.

    Exit code 1 when there are errors; warnings alone are 0.
    """
    from ofevents.local.rehearse import rehearse
    from ofevents.resolve import FileLookUp, load, resolve
    from ofevents.resolve.lookup import parse_urls

    documents = load(files)
    resolution = resolve(documents, FileLookUp(documents, parse_urls(url or [])))
    resolution = rehearse(documents, resolution)
    failed = bool(resolution.errors) or (strict and bool(resolution.warnings))
    if output is Output.json:
        typer.echo(as_json(resolution, failed))
    else:
        as_text(resolution)
    raise typer.Exit(1 if failed else 0)


def as_json(resolution: Resolution, failed: bool) -> str:
    """The problems and counts for a program; `ofevents run` shows them alike."""
    import json

    return json.dumps(
        {
            "valid": not failed,
            "errors": len(resolution.errors),
            "warnings": len(resolution.warnings),
            "files": list(resolution.files),
            "workers": len(resolution.workers),
            "problems": [problem.to_json() for problem in resolution.problems],
        },
        ensure_ascii=False,
    )


def as_text(resolution: Resolution) -> None:
    """The problems for a person, on standard output."""
    from rich.console import Console

    # Sentences are wrapped by the terminal, so that file:line:column stays one word.
    console = Console(highlight=False, markup=False, soft_wrap=True, emoji=False)
    for problem in resolution.problems:
        _show(console, problem)
    console.print(summary(resolution))


def _show(console: Console, problem: Problem) -> None:
    from rich.text import Text

    place = " ".join(part for part in (problem.resource, problem.path) if part)
    colour = "red" if problem.severity == "error" else "yellow"
    console.print(
        Text.assemble(
            (f"{problem.where}: " if problem.where else "", "bold"),
            (f"{problem.severity}: ", f"bold {colour}"),
            (place, "cyan") if place else problem.sentence,
        )
    )
    if place:
        console.print(f"  {problem.sentence}")
    for line in problem.caret.splitlines():
        console.print(f"    {line}", style="dim")
    if problem.blocks:
        console.print("  It does not run until that is there.", style="dim")


def summary(resolution: Resolution) -> str:
    """One line: how many errors, warnings and workers."""
    errors, warnings = len(resolution.errors), len(resolution.warnings)
    found = [_count(errors, "error")] if errors else []
    found += [_count(warnings, "warning")] if warnings else []
    read = f"in {_count(len(resolution.files), 'file')}"
    if errors:
        return f"{', '.join(found)} {read}"
    workers = f"{_count(len(resolution.workers), 'worker')} would run"
    blocked = f", {len(resolution.blocked)} would not" if resolution.blocked else ""
    verdict = ", ".join(found) if found else "all good"
    return f"{verdict} {read}: {workers}{blocked}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
