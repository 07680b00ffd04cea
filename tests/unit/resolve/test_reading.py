"""YAML with places: what is read as Kubernetes would, and what is refused safely."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.resolve.problems import Position
from ofevents.resolve.reading import read


def test_every_key_and_item_has_its_place() -> None:
    [document], problems = read("a:\n  b: x\n  c: ['p', q]\n", "f")
    assert problems == []
    assert document.value == {"a": {"b": "x", "c": ["p", "q"]}}
    assert document.positions[("a",)] == Position(1, 1)
    assert document.positions[("a", "b")] == Position(2, 3, (2, 6))
    assert document.positions[("a", "c", 0)] == Position(3, 7, (3, 8))
    assert document.positions[("a", "c", 1)] == Position(3, 12, (3, 12))


def test_a_text_over_several_lines_says_where_it_begins() -> None:
    [document], _ = read("a: |\n    x\n    y\nb: >\n  x\n  y\nc: 'it''s'\n", "f")
    assert document.positions[("a",)].text == (2, 5)
    assert document.positions[("b",)].text is None
    assert document.positions[("c",)].text is None


def test_values_are_what_kubernetes_reads() -> None:
    [document], _ = read("d: 2026-01-31\nt: 1:30\nn: 5\nf: 0.5\nb: yes\nz: ~\no: 0x1F\n", "f")
    assert document.value == {
        "d": "2026-01-31", "t": "1:30", "n": 5, "f": 0.5, "b": True, "z": None, "o": 31,
    }  # fmt: skip


def test_merges_and_aliases_are_put_in_place() -> None:
    [document], _ = read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n", "f")
    assert document.value["b"] == {"x": 1, "y": 3}
    assert document.value["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1\n", 2, "that begins in line 1"),
        ("a: 1\n b: 2\n", 2, "mapping values are not allowed"),
        ("a: 'x\n", 2, "quoted scalar"),
        ("\x00", 1, "special characters"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: !!binary aGk=\n", 1, "the tag tag:yaml.org,2002:binary is not read"),
        ("? [a]\n: b\n", 1, "a key must be text"),
        ("<<: 5\n", 1, "<< needs a mapping"),
        ("\ta: 1\n", 1, "not YAML"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(text: str, line: int, message: str) -> None:
    documents, [problem] = read(text, "f")
    assert documents == []
    assert problem.severity == "error"
    assert problem.line == line
    assert message in problem.message


def test_documents_before_a_mistake_are_still_read() -> None:
    documents, [problem] = read("a: 1\n---\nb: [\n", "f")
    assert [each.value for each in documents] == [{"a": 1}]
    assert problem.line == 4


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key a stands twice"),
        ("x:\n  on: 1\n", 2, "the key on is not text; put it in quotes"),
        ("5: 1\n", 1, "the key 5 is not text"),
    ],
)
def test_a_doubtful_key_is_an_error_beside_the_value(text: str, line: int, message: str) -> None:
    [document], problems = read(text, "f")
    assert problems == []
    [problem] = document.problems
    assert problem.line == line
    assert message in problem.message


def test_bombs_end_quickly() -> None:
    names = "abcdefgh"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in pairwise(names)
    )
    started = time.monotonic()
    for text in (bomb, "a: &a\n  b: *a\n", "[" * 5000, "{a: " * 5000):
        _, [problem] = read(text, "f")
        assert problem.severity == "error"
    assert time.monotonic() - started < 20


@given(st.text(max_size=60))
def test_no_text_at_all_raises(text: str) -> None:
    read(text, "f")
