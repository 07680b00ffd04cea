"""Durations, rates and sizes: what is read, what is refused, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.api.scalars import (
    format_duration,
    format_rate,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("7d", 7 * 86400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250us", 0.00025),
        ("0s", 0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "5 s", "-5s", "1w", "5S", "five", 30, 1.5, None])
def test_a_bad_duration_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 500ms, 30s"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**13))
def test_a_duration_survives_the_way_back(microseconds: int) -> None:
    seconds = microseconds / 10**6
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100), ("10/m", 1 / 6), ("36/h", 0.01)])
def test_a_rate_is_calls_per_second_and_survives_the_way_back(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)
    assert parse_rate(format_rate(rate)) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["100", "0/s", "1/d", "x/s", 5])
def test_a_bad_rate_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("value", "size"), [(5, 5), ("5", 5), ("1Ki", 1024), ("1.5Gi", 3 * 2**29), ("1M", 10**6)]
)
def test_a_size_is_bytes(value: int | str, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", [-1, "1KB", "x", True, 1.5, ""])
def test_a_bad_size_says_what_was_expected(value: int | str) -> None:
    with pytest.raises(ValueError, match="expected a size in bytes"):
        parse_size(value)
