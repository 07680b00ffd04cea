"""What an event means for each subscriber: filters, conditions, payloads, failures."""

from __future__ import annotations

import json
import timeit

import pytest

from ofevents.api.resolved import ResolvedInput
from ofevents.cel import CelError
from ofevents.errors import ConfigError
from ofevents.trigger.evaluator import Broken, Evaluator, Joining, Owed
from tests.unit.trigger.rig import A, B, event, inputs, subscriber, trigger


def test_without_a_condition_it_fires_for_every_input() -> None:
    evaluator = Evaluator(trigger(subscriber(), inputs=inputs(a=None, b=None)))
    for topic in (A, B):
        (step,) = evaluator.decide(topic, event()).steps
        assert isinstance(step, Owed)
        assert step.delivery.subscriber == "shop/trg/one"
        assert step.delivery.events == (event(),)
        assert step.delivery.payload is None


def test_a_condition_that_names_no_input_fires_for_every_input() -> None:
    one = subscriber(condition="event.data.n > 1")
    evaluator = Evaluator(trigger(one, inputs=inputs(a=None, b=None)))
    for topic in (A, B):
        assert len(evaluator.decide(topic, event(data='{"n": 2}')).steps) == 1
        ended = evaluator.decide(topic, event(data='{"n": 1}'))
        assert (ended.steps, ended.ended, ended.reason) == ((), "condition", "false")


@pytest.mark.parametrize("condition", ["a", "a && event.data.n == 1", 'inputs["a"]', "a || false"])
def test_bug_2_a_condition_fires_only_for_an_event_of_an_input_that_it_names(
    condition: str,
) -> None:
    evaluator = Evaluator(trigger(subscriber(condition=condition), inputs=inputs(a=None, b=None)))
    assert len(evaluator.decide(A, event("1")).steps) == 1
    # OpenFunction sent b's payload to the subscriber on a, if a had come before.
    assert evaluator.decide(B, event("2")).steps == ()


def test_a_name_that_is_no_identifier_is_reached_by_inputs() -> None:
    spec = trigger(
        subscriber(condition='inputs["my-input"]', payload='events["my-input"].data'),
        inputs=(ResolvedInput(name="my-input", topic=A), *inputs(b=None)),
    )
    evaluator = Evaluator(spec)
    (step,) = evaluator.decide(A, event()).steps
    assert isinstance(step, Owed) and step.delivery.event.data == b'{"n":1}'
    assert evaluator.decide(B, event()).steps == ()


def test_filters_come_first_and_say_so() -> None:
    spec = trigger(subscriber(condition="a || b"), inputs=inputs(a="event.data.n > 1", b=None))
    ended = Evaluator(spec).decide(A, event(data='{"n": 1}'))
    assert (ended.steps, ended.ended, ended.reason) == ((), "input", "false")


def test_two_inputs_may_read_the_same_topic() -> None:
    spec = trigger(
        subscriber("big", condition="big"),
        subscriber("any", condition="any"),
        subscriber("either", condition="big || any"),
        inputs=(
            ResolvedInput(name="big", topic=A, filter="event.data.n > 100"),
            ResolvedInput(name="any", topic=A),
        ),
    )
    evaluator = Evaluator(spec)
    assert [s.subscriber for s in evaluator.decide(A, event(data='{"n": 1}')).steps] == [1, 2]
    # Once per arrival, although the event came for both of its inputs.
    assert [s.subscriber for s in evaluator.decide(A, event(data='{"n": 999}')).steps] == [0, 1, 2]


def test_a_pure_disjunction_needs_no_state_and_a_conjunction_does() -> None:
    for condition, joins in {
        "a || b": False,
        "a || (b && event.data.n == 1)": False,
        "(a || b) && event.data.n == 1": False,
        "a && events.a.data.n == 1": False,
        "a && b": True,
        "a || (b && c)": True,
        "a && !b": True,
        "a && events.b.data.n == 1": True,
        "a ? b : c": True,
        "size(events) == 2": True,
    }.items():
        spec = trigger(subscriber(condition=condition), inputs=inputs(a=None, b=None, c=None))
        (step,) = Evaluator(spec).decide(A, event()).steps
        assert isinstance(step, Joining) is joins, condition


def test_a_missing_field_follows_on_error() -> None:
    for where in ("filter", "condition", "payload"):
        filter = "event.data.missing > 1" if where == "filter" else None
        condition = "a && event.data.missing > 1" if where == "condition" else "a"
        payload = "event.data.missing" if where == "payload" else None
        spec = trigger(
            subscriber("letter", condition=condition, payload=payload),
            subscriber("skip", condition=condition, payload=payload, on_error="skip"),
            subscriber("other", condition="b"),
            inputs=inputs(a=filter, b=None),
        )
        (step,) = Evaluator(spec).decide(A, event()).steps
        assert isinstance(step, Broken), where
        assert (step.subscriber, step.delivery.subscriber) == (0, "shop/trg/letter")
        assert step.delivery.payload is None
        assert "missing" in str(step.error)


def test_where_all_skip_the_reason_is_error() -> None:
    spec = trigger(subscriber(on_error="skip"), inputs=inputs(a="event.data.missing > 1"))
    assert Evaluator(spec).decide(A, event()).reason == "error"


def test_a_failed_filter_does_not_matter_to_who_is_reached_otherwise() -> None:
    spec = trigger(
        subscriber(condition="bad || good"),
        inputs=(
            ResolvedInput(name="bad", topic=A, filter="event.data.missing > 1"),
            ResolvedInput(name="good", topic=A),
        ),
    )
    (step,) = Evaluator(spec).decide(A, event()).steps
    assert isinstance(step, Owed)


def test_data_that_is_no_json_is_a_dead_letter_not_a_crash() -> None:
    spec = trigger(subscriber(), inputs=inputs(a="event.data.n > 1"))
    (step,) = Evaluator(spec).decide(A, event(data=b"{broken")).steps
    assert isinstance(step, Broken)


def test_the_payload_replaces_the_data_alone() -> None:
    one = subscriber(payload='{"n": events.a.data.n + 1, "id": event.id, "all": a && !b}')
    (step,) = Evaluator(trigger(one, inputs=inputs(a=None, b=None))).decide(A, event()).steps
    assert isinstance(step, Owed)
    sent = step.delivery.event
    assert json.loads(sent.data or b"") == {"n": 2, "id": "1", "all": True}
    assert (sent.id, sent.source, sent.type) == ("1", "/src", "t")
    assert sent.datacontenttype == "application/json"


def test_only_ordered_subscribers_have_a_key() -> None:
    spec = trigger(
        subscriber("loose"), subscriber("strict", delivery={"ordered": True}), inputs=inputs(a=None)
    )
    evaluator = Evaluator(spec)

    def keys(**more: str) -> list[str | None]:
        steps = evaluator.decide(A, event(**more)).steps
        return [step.delivery.key for step in steps if isinstance(step, Owed)]

    assert keys(partitionkey="k") == [None, "k"]
    assert keys() == [None, ""]


def test_bug_19_an_event_of_an_unknown_topic_goes_no_further() -> None:
    ended = Evaluator(trigger(inputs=inputs(a=None))).decide("event.shop.src.z", event())
    assert (ended.steps, ended.ended) == ((), "input")


def test_a_wrong_expression_is_found_when_the_worker_starts() -> None:
    with pytest.raises(CelError) as caught:
        Evaluator(trigger(subscriber(condition="ordrs"), inputs=inputs(a=None)))
    assert caught.value.path == "spec.subscribers[0].condition"
    with pytest.raises(CelError) as caught:
        Evaluator(trigger(inputs=inputs(a="event.data.n >")))
    assert caught.value.path == "spec.inputs.a.filter"


def test_inputs_that_could_never_meet_are_refused() -> None:
    keyed = ResolvedInput(name="a", topic=A, join_by="event.data.n")
    with pytest.raises(ConfigError, match="give b one too"):
        Evaluator(trigger(subscriber(condition="a && b"), inputs=(keyed, *inputs(b=None))))
    Evaluator(trigger(subscriber(condition="a || b"), inputs=(keyed, *inputs(b=None))))


def test_joins_go_by_the_value_of_join_by() -> None:
    spec = trigger(
        subscriber(condition="a && b"),
        inputs=(
            ResolvedInput(name="a", topic=A, join_by="event.data.order"),
            ResolvedInput(name="b", topic=B, join_by="event.data.ref"),
        ),
    )
    evaluator = Evaluator(spec)

    def key(topic: str, data: str) -> str:
        (step,) = evaluator.decide(topic, event(data=data)).steps
        assert isinstance(step, Joining)
        return step.key

    assert key(A, '{"order": 7}') == key(B, '{"ref": 7}')
    assert key(A, '{"order": 7}') != key(A, '{"order": "7"}')
    (broken,) = evaluator.decide(A, event(data="{}")).steps
    assert isinstance(broken, Broken)


def test_an_event_that_matches_nothing_costs_little() -> None:
    """A guard against an order of magnitude; the bench measures the figure."""
    evaluator = Evaluator(trigger(inputs=inputs(a="event.data.n > 1")))
    one = event()
    evaluator.decide(A, one)
    assert timeit.timeit(lambda: evaluator.decide(A, one), number=2000) / 2000 < 100e-6
