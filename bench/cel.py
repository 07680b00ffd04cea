"""Stage "cel": what a filter costs, beside a hand-written lambda and two other engines.

All figures of a row come from one run, the contenders interleaved, best of seven: so the
ratios hold on a busy machine too. `python -m bench.cel` prints them and exits with 1
when one is over its bound; `--json FILE` writes the rows.

The bounds are ratios to the lambda, which reads the event as a plain dict:
equality 6, a filter of four terms 15, a loop over 444 items 8; and a 30 KB event may
cost at most 1.2 times what a 300 B event does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

from ofevents.cel import BOOL, EVENT, Environment, compile

STAGE = "cel"
_ROUNDS = 7
_ENVIRONMENT = Environment({"event": EVENT})
_EQUALITY = 'event.type == "order"'
_FOUR = (
    'event.type == "order" && event.data.amount > 100.0 && event.data.country in ["DE", "AT"]'
    ' && event.source.startsWith("/shop")'
)
_LOOP = 'event.data.items.exists(i, i.sku == "none")'

Row = dict[str, Any]
Run = Callable[[], object]


def event(items: int) -> dict[str, Any]:
    """An event with so many items: 2 make about 300 bytes of JSON, 444 about 30 KB."""
    lines = [{"sku": f"sku-{n:05}", "price": n + 0.5, "quantity": n % 9} for n in range(items)]
    return {
        "id": "a-1", "type": "order", "source": "/shop/eu", "specversion": "1.0",
        "data": {"amount": 100.5, "country": "DE", "customer": "c-17", "items": lines},
    }  # fmt: skip


def best(runs: Mapping[str, Run], seconds: float) -> dict[str, float]:
    """Microseconds of processor time of one call of each, best of seven rounds by turns."""
    counts = {name: _count(run, seconds) for name, run in runs.items()}
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = process_time()
            for _ in range(counts[name]):
                run()
            found[name] = min(found[name], (process_time() - start) / counts[name])
    return {name: value * 1e6 for name, value in found.items()}


def _count(run: Run, seconds: float) -> int:
    """How many calls take about that long."""
    start = process_time()
    run()
    return max(1, int(seconds / max(process_time() - start, 1e-6)))


def _ours(text: str, value: Mapping[str, Any]) -> Run:
    evaluate = compile(text, _ENVIRONMENT, result=BOOL).evaluate
    bindings = {"event": value}
    return lambda: evaluate(bindings)


def _reference(text: str, value: dict[str, Any]) -> Run:
    from cel_expr_python import cel

    environment = cel.NewEnv(variables={"event": cel.Type.DYN})
    program = environment.compile(text, disable_check=True)
    activation = environment.Activation({"event": value})
    return lambda: program.eval(activation)


def _celpy(text: str, value: dict[str, Any]) -> Run:
    import celpy
    from celpy.adapter import json_to_cel

    limit = sys.getrecursionlimit()
    environment = celpy.Environment()
    program = environment.program(environment.compile(text))
    sys.setrecursionlimit(limit)  # celpy raises it for the whole process
    activation = {"event": json_to_cel(value)}
    return lambda: program.evaluate(activation)


def _row(name: str, figure: float, unit: str, bound: float | None = None) -> Row:
    ok = bound is None or figure <= bound
    shown = "" if bound is None else f"at most {bound:g}"
    return {"name": name, "figure": round(figure, 3), "unit": unit, "bound": shown, "ok": ok}


def _beside(
    name: str, text: str, by_hand: Callable[[Any], object], items: int, bound: float, seconds: float
) -> list[Row]:
    """One expression by every contender, and its ratio to the lambda."""
    value = event(items)
    took = best(
        {
            "ours": _ours(text, value),
            "lambda": lambda: by_hand(value),
            "cel-expr-python": _reference(text, value),
            "celpy": _celpy(text, value),
        },
        seconds,
    )
    rows = [_row(f"{name}: {each}", figure, "us") for each, figure in took.items()]
    return [*rows, _row(f"{name}: ours / lambda", took["ours"] / took["lambda"], "x", bound)]


def run(quick: bool = False) -> list[Row]:
    """The rows of the stage. `quick` takes a tenth of the time, for a smoke test."""
    seconds = 0.001 if quick else 0.01
    rows = _beside("equality", _EQUALITY, lambda e: e["type"] == "order", 2, 6, seconds)
    rows += _beside(
        "four terms",
        _FOUR,
        lambda e: (
            e["type"] == "order"
            and e["data"]["amount"] > 100.0
            and e["data"]["country"] in ("DE", "AT")
            and e["source"].startswith("/shop")
        ),
        2,
        15,
        seconds,
    )
    rows += _beside(
        "exists over 444",
        _LOOP,
        lambda e: any(i["sku"] == "none" for i in e["data"]["items"]),
        444,
        8,
        seconds,
    )
    sizes = best({"300 B": _ours(_FOUR, event(2)), "30 KB": _ours(_FOUR, event(444))}, seconds)
    rows.append(_row("four terms: 30 KB / 300 B", sizes["30 KB"] / sizes["300 B"], "x", 1.2))
    loading = best({"compile": lambda: compile(_FOUR, _ENVIRONMENT, result=BOOL)}, seconds)
    rows.append(_row("four terms: compile", loading["compile"], "us"))
    return rows


def main() -> int:
    """Print the rows; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(prog="bench.cel", description="what a CEL filter costs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    options = parser.parse_args()
    rows = run(quick=options.quick)
    for row in rows:
        over = "" if row["ok"] else "  OVER"
        print(f"{row['name']:34} {row['figure']:10.3f} {row['unit']:2}  {row['bound']}{over}")
    if options.json:
        options.json.write_text(json.dumps({"stage": STAGE, "rows": rows}, indent=2) + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
