"""Reads the -f files for the verbs that go on only when nothing is wrong in them.

Problems are shown exactly as `ofevents validate` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ofevents.cli import validate
from ofevents.cli.options import Output

if TYPE_CHECKING:
    from ofevents.resolve import Resolution


def checked(files: Sequence[Path], urls: Sequence[str], output: Output) -> Resolution:
    """What the files mean; with errors they are all shown, and the process ends with 1."""
    from ofevents.local import folder

    resolution = folder.read(files, urls)
    if resolution.errors:
        if output is Output.json:
            typer.echo(validate.as_json(resolution, failed=True))
        else:
            validate.as_text(resolution)
        raise typer.Exit(1)
    return resolution
