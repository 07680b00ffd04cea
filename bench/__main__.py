"""`make bench`: run the stages, print a table, fail on a figure out of bounds.

python -m bench [--stage cel] [--stage sources] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

STAGES = ("cel", "dapr", "pipeline", "sources")


def _table(stage: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"stage {stage}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("bound")
    table.add_column("")
    for row in rows:
        verdict = "" if not row["bound"] else "ok" if row["ok"] else "[red]out of bounds[/red]"
        figure = f"{row['figure']:,.0f}" if row["figure"] >= 100 else f"{row['figure']:.3g}"
        table.add_row(row["name"], figure, row["unit"], row["bound"], verdict)
    return table


def main() -> int:
    """Exit code 1 when a figure is out of its bound."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--stage", action="append", choices=STAGES)
    parser.add_argument("--quick", action="store_true", help="a smoke test with small counts")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    console = Console(width=110)
    results: dict[str, list[dict[str, Any]]] = {}
    for stage in options.stage or STAGES:
        results[stage] = importlib.import_module(f"bench.{stage}").run(quick=options.quick)
        console.print(_table(stage, results[stage]))
    if options.json:
        options.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    bad = [row["name"] for rows in results.values() for row in rows if not row["ok"]]
    if bad:
        console.print(f"out of bounds: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
