"""The benchmark of the main job runs, and delivers each match exactly once."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bench.sources import SHARES

ROOT = Path(__file__).parents[2]


async def figures_of(stage: str, tmp_path: Path, *, seconds: float = 600) -> dict[str, float]:
    """A quick run of the stage, within `seconds`: each figure by its name."""
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--stage", stage, "--quick", "--json", str(figures),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-3000:]
    return {row["name"]: row["figure"] for row in json.loads(figures.read_text())[stage]}


@pytest.mark.timeout(660)
async def test_a_quick_run_of_the_pipeline(tmp_path: Path) -> None:
    rows = await figures_of("pipeline", tmp_path)
    assert rows["deliveries made twice"] == 0
    rates = [rows[name] for name in rows if name.startswith(("end to end", "filter only"))]
    assert len(rates) == 7
    assert all(rate > 0 for rate in rates)


@pytest.mark.timeout(660)
async def test_a_quick_run_of_dapr(tmp_path: Path) -> None:
    rows = await figures_of("dapr", tmp_path)
    assert len(rows) == 16
    assert all(rate > 0 for rate in rows.values())


@pytest.mark.timeout(960)  # eight servers, one after the other
async def test_a_quick_run_of_the_sources(tmp_path: Path) -> None:
    rows = await figures_of("sources", tmp_path, seconds=900)
    assert len(rows) == 4 * len(SHARES)
    assert all(rate > 0 for rate in rows.values())
