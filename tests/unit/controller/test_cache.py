"""Who is told of what: changes of others, and never what we have written ourselves."""

from __future__ import annotations

from typing import Any

from ofevents.cluster import kinds
from ofevents.cluster.cache import Cache, Object
from ofevents.cluster.kinds import Kind

Told = list[tuple[int, int]]
"""Versions before and after, 0 for none."""


def at(version: int) -> Object:
    metadata = {"namespace": "shop", "name": "a", "uid": "u", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def opened() -> tuple[Cache, Told]:
    told: Told = []

    def version(object: Any) -> int:
        return int(object["metadata"]["resourceVersion"]) if object else 0

    def listener(kind: Kind, before: Object | None, now: Object | None) -> None:
        told.append((version(before), version(now)))

    return Cache(kinds.CONFIG_MAP, listener), told


def test_changes_are_told_once() -> None:
    cache, told = opened()
    for version in (3, 3, 2, 4):
        cache.put(at(version))
    assert told == [(0, 3), (3, 4)]


def test_our_own_write_is_told_to_nobody_whenever_it_is_heard_of() -> None:
    cache, told = opened()
    with cache.writing("shop", "a") as put:
        cache.put(at(3))  # The watch is faster than the answer.
        put(at(3))
    with cache.writing("shop", "a") as put:
        put(at(5))
    cache.put(at(5))
    assert told == []
    assert cache.get("shop", "a") == at(5)


def test_what_others_write_meanwhile_is_told_afterwards() -> None:
    cache, told = opened()
    cache.put(at(1))
    told.clear()
    with cache.writing("shop", "a") as put:
        cache.put(at(2))
        put(at(3))
        assert told == []
    assert told == [(1, 3)]
    with cache.writing("shop", "a") as put:
        cache.put(at(4))
        cache.put(at(5))
        put(at(4))
    assert told == [(1, 3), (3, 5)]


def test_a_write_that_failed_hides_nothing() -> None:
    cache, told = opened()
    try:
        with cache.writing("shop", "a"):
            cache.put(at(2))
            raise ValueError
    except ValueError:
        pass
    assert told == [(0, 2)]
    cache.put(at(3))
    assert told == [(0, 2), (2, 3)]


def test_another_object_is_told_at_once() -> None:
    cache, told = opened()
    with cache.writing("shop", "b"):
        cache.put(at(2))
        assert told == [(0, 2)]
