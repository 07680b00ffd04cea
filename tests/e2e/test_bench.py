"""The benchmark of the main job runs, and delivers each match exactly once."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
async def test_a_quick_run_of_the_pipeline(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--stage", "pipeline", "--quick", "--json", str(figures),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 220)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-3000:]
    rows = {row["name"]: row["figure"] for row in json.loads(figures.read_text())["pipeline"]}
    assert rows["deliveries made twice"] == 0
    rates = [rows[name] for name in rows if name.startswith(("end to end", "filter only"))]
    assert len(rates) == 7
    assert all(rate > 0 for rate in rates)
