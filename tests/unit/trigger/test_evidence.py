"""Whether a subscriber is away: the state machine, against a plain model of its rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.trigger.evidence import (
    AWAY,
    AWAY_AFTER,
    FIRST_PROBE,
    LONGEST_PROBE,
    MISCONFIGURED,
    NOTHING,
    Evidence,
    Failure,
)

FAILURES = st.builds(
    Failure,
    event=st.sampled_from("abcde"),
    wrong=st.booleans(),
    error=st.text(max_size=5),
    delay=st.sampled_from([0.0, 7.0]),
)
STEPS = st.lists(st.one_of(FAILURES, st.just("accepted")), max_size=30)


def failed(event: str, *, wrong: bool = False, delay: float = 0.0) -> Failure:
    return Failure(event, wrong, "answered", delay)


def after(*failures: Failure, accepted: bool = False) -> Evidence:
    return NOTHING.add(failures, accepted=accepted, now=1.0)


def test_three_different_events_and_nothing_less() -> None:
    assert after(*[failed("a")] * 9).closed is None, "one event alone may be poison"
    assert after(failed("a"), failed("b"), failed("a"), failed("b")).closed is None
    assert after(failed("a"), failed("b"), failed("c")).closed == AWAY


@pytest.mark.parametrize(
    ("accepted", "closed"), [(False, MISCONFIGURED), (True, None)], ids=["never", "before"]
)
def test_a_wrong_call_tells_at_once_where_nothing_was_ever_accepted(
    accepted: bool, closed: str | None
) -> None:
    assert after(failed("a", wrong=True), accepted=accepted).closed == closed


def test_all_wrong_is_misconfigured_and_a_mixture_is_away() -> None:
    wrong = [failed(event, wrong=True) for event in "abc"]
    assert after(*wrong, accepted=True).closed == MISCONFIGURED
    assert after(*wrong[:2], failed("c"), accepted=True).closed == AWAY
    assert after(failed("a"), failed("b", wrong=True), failed("c", wrong=True)).closed == AWAY


def test_a_probe_tells_what_it_is_now() -> None:
    away = after(*map(failed, "abc"))
    assert away.probed(failed("d")) is away, "no news is not worth a write"
    assert away.probed(failed("d", wrong=True)).closed == MISCONFIGURED
    assert away.probed(failed("d", delay=30.0)).pause == 30.0
    assert away.probed(failed("d", delay=30.0)).probing().pause < 30.0


@given(STEPS, st.booleans())
def test_it_is_closed_exactly_as_the_rules_say(steps: list[Failure | str], accepted: bool) -> None:
    evidence, events, kinds = NOTHING, set[str](), set[bool]()
    for step in steps:
        if isinstance(step, str):
            evidence, events, kinds, accepted = NOTHING, set(), set(), True
            continue
        before = evidence
        evidence = evidence.add([step], accepted=accepted, now=5.0)
        if before.closed:
            assert evidence is before
            continue
        events.add(step.event)
        kinds.add(step.wrong)
        if len(events) >= AWAY_AFTER:
            assert evidence.closed == (MISCONFIGURED if kinds == {True} else AWAY)
        else:
            at_once = kinds == {True} and not accepted
            assert evidence.closed == (MISCONFIGURED if at_once else None)


@given(st.integers(0, 10_000), st.floats(0, 1000))
def test_probes_are_at_least_half_a_second_apart(probes: int, delay: float) -> None:
    pause = replace(NOTHING, closed=AWAY, probes=probes, delay=delay).pause
    assert max(FIRST_PROBE, delay) <= pause <= max(LONGEST_PROBE, delay)


@given(st.lists(FAILURES, max_size=5), st.integers(0, 3))
def test_the_store_keeps_all_of_it(failures: list[Failure], probes: int) -> None:
    evidence = NOTHING.add(failures, accepted=True, now=17.25)
    for _ in range(probes):
        evidence = evidence.probing()
    assert Evidence.decode(evidence.encode()) == evidence


@pytest.mark.parametrize("value", [b"", b"[]", b'{"events": 3}', b'{"events": [], "x": 1}'])
def test_what_a_stranger_wrote_holds_nothing_against_it(value: bytes) -> None:
    assert Evidence.decode(value) == NOTHING
