"""The shape of the tree: file sizes, module names, docstrings that say why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("ofevents/**/*.py"), *ROOT.glob("adapters/**/*.py")])
TESTS = sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py")])
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "impl", "misc"}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_source_file_is_over_400_lines() -> None:
    long = {_id(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_no_test_file_is_over_500_lines() -> None:
    long = {_id(p): n for p in TESTS if (n := len(p.read_text().splitlines())) > 500}
    assert long == {}


def test_no_module_has_a_vague_name() -> None:
    vague = [_id(p) for p in SOURCES if {*p.with_suffix("").parts} & VAGUE]
    assert vague == []


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=_id)
def test_every_module_says_why_it_exists(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc, f"{_id(path)} has no docstring"
