"""The state of a condition over several inputs, as a value."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.errors import EvaluationError
from ofevents.event import Event
from ofevents.trigger.joinstate import (
    TAKEN_MAX,
    Arrival,
    JoinState,
    Match,
    Waits,
    arrive,
    decode,
    encode,
    settle,
)
from tests.unit.trigger.rig import event

WINDOW = 10.0


def both(present: Mapping[str, Event]) -> bool:
    return {"a", "b"} <= present.keys()


def came(id: str, *inputs: str, at: float = 0.0) -> Arrival:
    return Arrival(event(id), inputs or (id[0],), at)


def after(*arrivals: Arrival, holds=both) -> tuple[JoinState, list[Match | Waits]]:  # type: ignore[no-untyped-def]
    """The state after those, each match settled at once, and each outcome."""
    state, outcomes = JoinState(), []
    for arrival in arrivals:
        state, outcome = arrive(state, arrival, WINDOW, holds)
        outcomes.append(outcome)
        if isinstance(outcome, Match):
            state = settle(state, outcome.token)
    return state, outcomes


def fired(outcomes: list[Match | Waits], *arrivals: Arrival) -> list[list[str]]:
    return [
        [one.id for one in outcome.events(arrival.event)]
        for outcome, arrival in zip(outcomes, arrivals, strict=True)
        if isinstance(outcome, Match)
    ]


def way(*arrivals: Arrival, holds=both) -> list[list[str]]:  # type: ignore[no-untyped-def]
    return fired(after(*arrivals, holds=holds)[1], *arrivals)


def test_it_fires_when_all_are_there_with_the_last_one_last() -> None:
    assert way(came("a1"), came("b1", at=1)) == [["a1", "b1"]]
    assert way(came("b1"), came("a1", at=1)) == [["b1", "a1"]]
    assert way(came("a1"), came("a2", at=1)) == []


def test_bug_3_what_matched_is_consumed() -> None:
    arrivals = [came("a1"), came("b1", at=1), came("b2", at=2), came("a2", at=3), came("a3", at=4)]
    # OpenFunction fired for each of the three.
    assert way(*arrivals) == [["a1", "b1"], ["b2", "a2"]]


def test_the_latest_of_an_input_counts() -> None:
    assert way(came("a1"), came("a2", at=1), came("b1", at=2)) == [["a2", "b1"]]
    # Also when an older one comes late.
    assert way(came("a2", at=1), came("a1"), came("b1", at=2)) == [["a2", "b1"]]


def test_an_input_counts_for_the_window_by_the_time_of_storage() -> None:
    assert way(came("a1"), came("b1", at=10)) == [["a1", "b1"]]
    assert way(came("a1"), came("b1", at=10.1)) == []
    # One that was delayed on its way meets what was stored after it.
    assert way(came("a1", at=9), came("b1", at=0)) == [["a1", "b1"]]
    assert way(came("a1", at=11), came("b1", at=0)) == []


def test_a_delayed_event_finds_the_moment_at_which_all_were_received() -> None:
    def holds(present: Mapping[str, Event]) -> bool:
        return {"a", "b"} <= present.keys() or {"a", "c", "d"} <= present.keys()

    assert way(came("b1"), came("c1", at=14), came("a1", at=5), holds=holds) == [["b1", "a1"]]
    three = [came("a1"), came("c1", at=12), came("b1", at=6)]
    assert way(*three, holds=lambda p: {"a", "b", "c"} <= p.keys()) == []


def test_a_redelivery_counts_once() -> None:
    a, b = came("a1"), came("b1", at=1)
    state, outcomes = after(a, a, b, a, b)
    assert outcomes[1] is Waits.SEEN and outcomes[3:] == [Waits.SEEN, Waits.SEEN]
    assert state.held == () and state.owed == ()
    # A superseded one too.
    assert way(came("a1"), came("a2", at=1), came("b1", at=2), came("a1"), came("b2", at=3)) == [
        ["a2", "b1"]
    ]


def test_until_it_is_settled_a_redelivery_finds_the_same_match_owed() -> None:
    a, b = came("a1"), came("b1", at=1)
    state, _ = arrive(JoinState(), a, WINDOW, both)
    state, match = arrive(state, b, WINDOW, both)
    for later in (came("a2", at=2), came("b2", at=3)):
        state, _ = arrive(decode(encode(state)), later, WINDOW, both)
    state, again = arrive(state, b, WINDOW, both)
    assert again == match
    state = settle(state, b.token)
    assert arrive(state, b, WINDOW, both)[1] is Waits.SEEN
    assert len(state.owed) == 1  # a2 and b2's


def test_only_what_the_match_needs_is_consumed() -> None:
    def holds(present: Mapping[str, Event]) -> bool:
        return "a" in present or {"b", "c"} <= present.keys()

    assert way(came("b1"), came("a1", at=1), came("c1", at=2), holds=holds) == [
        ["a1"],
        ["b1", "c1"],
    ]


def test_what_the_condition_reads_of_an_event_is_needed() -> None:
    def holds(present: Mapping[str, Event]) -> bool:
        if "b" not in present:
            raise EvaluationError("no such key: b")
        return "a" in present

    state, _ = arrive(JoinState(), came("a1"), WINDOW, lambda _: False)
    _, match = arrive(state, came("b1", at=1), WINDOW, holds)
    assert isinstance(match, Match)
    assert [h.input for h in match.held] == ["a"]


def test_an_event_for_two_inputs_meets_itself_once() -> None:
    assert way(came("x", "a", "b")) == [["x"]]
    state, _ = after(came("x", "a", "c"), came("b1", at=1))
    assert state.held == ()  # x is consumed as c as well


def test_an_error_of_the_condition_changes_nothing() -> None:
    def fails(present: Mapping[str, Event]) -> bool:
        raise EvaluationError("no")

    state, _ = after(came("a1"))
    try:
        arrive(state, came("b1", at=1), WINDOW, fails)
    except EvaluationError:
        assert arrive(state, came("b1", at=1), WINDOW, both)[0].owed
    else:
        raise AssertionError("it passes through")


def test_tokens_are_bounded() -> None:
    state = JoinState()
    for number in range(TAKEN_MAX + 10):
        state, _ = arrive(state, came(f"a{number}", at=number), WINDOW, both)
    assert len(state.taken) == TAKEN_MAX
    assert len(state.held) == 1


events = st.builds(
    lambda id, data, at: Arrival(
        Event.create(id=id, source="/s", type="t", data=data), ("a",) if at < 50 else ("b",), at
    ),
    st.text(min_size=1, max_size=8),
    st.one_of(st.none(), st.binary(max_size=40), st.just(b'{"x": 1.0}')),
    st.floats(0, 100),
)


@settings(deadline=None)
@given(st.lists(events, max_size=8), st.booleans())
def test_its_bytes_are_exact(arrivals: list[Arrival], settles: bool) -> None:
    state = JoinState()
    for arrival in arrivals:
        state, outcome = arrive(state, arrival, 1000.0, both)
        if settles and isinstance(outcome, Match):
            state = settle(state, outcome.token)
        assert decode(encode(state)) == state
