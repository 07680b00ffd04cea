"""Makes the fast form of an expression callable: compiles what `codegen.py` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ofevents.cel.codegen import Codegen
from ofevents.cel.scribe import NoFastForm
from ofevents.cel.tree import Node

Evaluate = Callable[[Mapping[str, object]], Any]


def generate(
    root: Node, *, condition: bool, measured: bool, names: Mapping[str, Any]
) -> Evaluate | None:
    """The function `evaluate(bindings)`, None where there is no fast form.

    `condition` makes sure of a bool, `measured` of a result within the limit of size.
    `names` has what the frame of the function needs: `new_budget()`, `careful(bindings,
    budget)` and `LimitExceeded`.
    """
    writer = Codegen()
    try:
        source = writer.condition(root) if condition else writer.source(root)
    except NoFastForm:
        return None
    if measured:
        writer.budget = True
        source = f"measure(B, {source})"
    lines = [
        "def evaluate(b):",
        "    B = None",
        "    try:",
        "        B = new_budget()" if writer.budget else "",
        f"        return {source}",
        "    except LimitExceeded:",
        "        raise",
        "    except Exception:",
        "        pass",
        "    return careful(b, B)",
    ]
    return _function("\n".join(line for line in lines if line), {**writer.names, **names})


def _function(source: str, names: dict[str, Any]) -> Evaluate | None:
    try:
        code = compile(source, "<cel>", "exec")
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        return None  # nested too deeply for Python's compiler; the complete form has no such limit
    exec(code, names)
    function: Evaluate = names["evaluate"]
    return function
