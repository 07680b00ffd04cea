"""The cases of the CEL specification: each evaluates, fails or is typed as it says.

The cases are a file beside the project; without it these tests are skipped, and the
project's own cases in `tests/unit/cel/` cover the rules. A case that we do not meet is in
`GAPS` with its reason and must fail, so that the list stays true.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ofevents.cel import (
    CelError,
    CelType,
    Duration,
    Environment,
    Optional,
    Timestamp,
    UInt,
    compile,
)
from ofevents.cel.moments import parse_duration, parse_timestamp
from ofevents.cel.signatures import Overload, parse_type
from ofevents.cel.values import MixedMap
from ofevents.errors import EvaluationError

FILE = Path(__file__).parents[2] / ".." / "shared" / "data" / "cel-cases.json"
MISSING = "the specification's cases are not beside the project (../shared/data/cel-cases.json)"
SHARES = {"core": 0.99, "extension": 0.95, "type-checker": 0.8}
GAPS: dict[str, str] = {}
"""`file/section/name` of a case that we do not meet, and why."""

CASES: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []


def case_id(case: Mapping[str, Any]) -> str:
    return f"{case['file']}/{case['section']}/{case['name']}"


def value_of(typed: Any) -> Any:
    """The Python value of a typed value such as `["uint", "1"]`."""
    kind, payload = typed[0], typed[1] if len(typed) > 1 else None
    match kind:
        case "list":
            return [value_of(each) for each in payload]
        case "map":
            entries = [(value_of(key), value_of(value)) for key, value in payload]
            whole = dict(entries)
            if len(whole) == len(entries):
                return whole
            return MixedMap({(type(k) is bool, k): (k, v) for k, v in entries})
        case "int" | "uint":
            return UInt(payload) if kind == "uint" else int(payload)
        case "double":
            return float(payload)
        case "bytes":
            return base64.b64decode(payload)
        case "type":
            return CelType(payload)
        case "timestamp":
            return parse_timestamp(payload)
        case "duration":
            return parse_duration(payload)
        case "optional":
            return Optional(value_of(payload))
    return payload


def same(got: Any, wanted: Any) -> bool:
    """Equal, of the same types all the way down, NaN like NaN and -0.0 unlike 0.0."""
    if isinstance(got, Mapping) and isinstance(wanted, Mapping):
        return len(got) == len(wanted) and all(
            key in wanted and same(got[key], wanted[key]) for key in got
        )
    if type(got) is not type(wanted):
        return False
    if isinstance(got, list):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(got, float):
        alike = math.copysign(1, got) == math.copysign(1, wanted)
        return (math.isnan(got) and math.isnan(wanted)) or (got == wanted and alike)
    if isinstance(got, Optional):
        return got.present == wanted.present and (not got.present or same(got.value, wanted.value))
    return bool(got == wanted)


def environment_of(case: Mapping[str, Any]) -> Environment:
    declared: defaultdict[str, list[Overload]] = defaultdict(list)
    for entry in case["type_env"]:
        for each in entry.get("overloads", ()):
            params = tuple(parse_type(param.replace("param:", "")) for param in each["params"])
            result = parse_type(each["result"].replace("param:", ""))
            declared[entry["name"]].append(Overload(each["member"], params, result))
    return Environment(
        {each["name"]: parse_type(each["type"]) for each in case["type_env"] if "type" in each},
        container=case["container"],
        declared={name: tuple(overloads) for name, overloads in declared.items()},
    )


def judge(case: Mapping[str, Any]) -> str | None:
    """What is wrong with our answer to the case, None when it is right."""
    expected, wanted = case["expect"]
    try:
        program = compile(case["expr"], environment_of(case), check=not case["disable_check"])
        if case["deduced_type"] and str(program.type) != case["deduced_type"]:
            return f"its type is {program.type}, not {case['deduced_type']}"
        if case["check_only"]:
            return None
        bindings = {name: value_of(value) for name, value in case["bindings"].items()}
        got = program.evaluate(bindings)
    except (CelError, EvaluationError) as error:
        return None if expected == "error" else f"error: {error}"
    if expected == "error":
        return f"{got!r} instead of the error {wanted}"
    return None if same(got, value_of(wanted)) else f"{got!r} instead of {wanted}"


def marked(case: Mapping[str, Any]) -> Any:
    name = case_id(case)
    reason = GAPS.get(name)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(case, id=name, marks=marks)


@pytest.mark.skipif(not CASES, reason=MISSING)
@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_a_case_of_the_specification(case: Mapping[str, Any]) -> None:
    assert judge(case) is None, case["expr"]


@pytest.mark.skipif(not CASES, reason=MISSING)
@pytest.mark.parametrize("group", SHARES)
def test_the_share_of_a_group_that_is_met(group: str) -> None:
    cases = [case for case in CASES if case["group"] == group]
    met = sum(judge(case) is None for case in cases)
    assert met >= SHARES[group] * len(cases), f"{met} of {len(cases)}"


def test_the_judge_sees_wrong_values_types_and_errors() -> None:
    """The judge itself: a case that is wrong is found to be."""
    case = {
        "expr": "1 + 1", "bindings": {}, "deduced_type": None, "container": "", "type_env": [],
        "disable_check": False, "check_only": False,
    }  # fmt: skip
    assert judge({**case, "expect": ["value", ["int", "2"]]}) is None
    assert judge({**case, "expect": ["value", ["uint", "2"]]})
    assert judge({**case, "expect": ["error", "any"]})
    assert judge({**case, "expect": ["value", ["int", "2"]], "deduced_type": "string"})
    assert judge({**case, "expr": "1 / 0", "expect": ["value", ["int", "2"]]})
    assert same([-0.0, {"a": Duration(1)}], [-0.0, {"a": Duration(1)}])
    assert not same(0.0, -0.0)
    assert not same(Timestamp(1), Timestamp(2))
