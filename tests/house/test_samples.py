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
