"""Whether what is there holds what is wanted, and what of it may be ours alone."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.controller.apply import holds
from ofevents.controller.depend import Dependencies
from ofevents.controller.rights import RIGHTS


@pytest.mark.parametrize(
    ("live", "wanted", "expected"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": 2}, {"a": 1}, False),
        ({}, {"a": None}, True),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]}, False),
        ({"a": "x"}, {"a": {"b": 1}}, False),
    ],
)
def test_what_the_server_adds_is_no_difference(live: Any, wanted: Any, expected: bool) -> None:
    assert holds(live, wanted) is expected


def test_who_asked_is_asked_again_and_nobody_else() -> None:
    depends = Dependencies()
    one, two = (kinds.TRIGGER, "shop", "one"), (kinds.TRIGGER, "shop", "two")
    login, bus = (kinds.SECRET, "shop", "login"), (kinds.EVENT_BUS, "shop", "default")
    assert depends.set(one, [login, bus]) == {login, bus}
    depends.set(two, [bus])
    assert depends.askers(login) == [one]
    assert depends.askers(bus) == [one, two]
    assert depends.set(one, [bus]) == {login}
    assert depends.askers(login) == []
    depends.set(two, ())
    assert depends.askers(bus) == [one]


def test_every_kind_that_is_written_or_watched_has_its_right() -> None:
    may = {
        (right.group, resource, verb)
        for right in RIGHTS
        for resource in right.resources
        for verb in right.verbs
    }
    written = ("get", "list", "watch", "create", "patch", "delete")
    needed = {(kind, verb) for kind in kinds.CHILDREN for verb in written}
    for kind in (*kinds.OWN, *kinds.REFERENTS, kinds.POD, kinds.CRD):
        needed |= {(kind, "list"), (kind, "watch")}
    asked = {(kind.group, kind.plural, verb) for kind, verb in needed}
    for kind in (kinds.EVENT_SOURCE, kinds.TRIGGER):
        asked |= {
            (kind.group, kind.plural, "patch"),
            (kind.group, f"{kind.plural}/finalizers", "update"),
        }
    asked |= {(kind.group, f"{kind.plural}/status", "patch") for kind in kinds.OWN}
    asked |= {(kinds.EVENT.group, kinds.EVENT.plural, "create")}
    asked |= {
        (kinds.WEBHOOK.group, kinds.WEBHOOK.plural, verb) for verb in ("get", "patch", "create")
    }
    asked |= {(kinds.LEASE.group, kinds.LEASE.plural, verb) for verb in ("get", "create", "update")}
    assert asked - may == set()
    assert may - asked == set()  # nothing that is not used
    assert "*" not in str(RIGHTS)
    assert all(right.reason for right in RIGHTS)
