"""Every sample is without a mistake that `ofevents validate` finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ofevents.cli.validate import validate

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"


@pytest.mark.parametrize("folder", sorted(SAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_a_sample_is_valid(folder: Path) -> None:
    app = typer.Typer()
    app.command()(validate)
    found = CliRunner().invoke(app, [str(folder)])
    assert found.exit_code == 0, found.output
    assert "all good" in found.output


@pytest.mark.parametrize("folder", sorted(SAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_its_commands_show_something_as_they_are_written(folder: Path) -> None:
    """`tail` shows what comes from now on, of the current folder's bus; `curl -d` sends a form."""
    lines = [line for file in folder.glob("*.yaml") for line in file.read_text().splitlines()]
    for line in lines:
        if "ofevents tail" in line:
            assert "--since all" in line and f"-f deploy/samples/{folder.name}" in line, line
        if "curl http" in line and "-d" in line:
            assert "Content-Type" in line, line
