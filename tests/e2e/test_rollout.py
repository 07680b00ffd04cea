"""A roll-out: the old and the new worker of an edited Trigger run side by side, under load.

Every order is decided by one of them for all subscribers: by the old spec or by the
new one, and nobody whom that spec names goes without it.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.orders import KEYS, Calls, bus, functions, posting, source, trigger, write
from tests.e2e.processes import Ofevents, call, specs
from tests.servers import free_port, until
from tests.servers.nats import NatsServer
from tests.servers.sink import Answer

pytestmark = pytest.mark.timeout(500)

GONE, BEFORE = "gone", "before"
"""Subscribers of the old spec alone: one is removed, one is renamed to `after`."""


def subscribers(version: int, calls: Calls, *, ordered: bool) -> list[dict[str, Any]]:
    """Of the old spec (1) or the new one (2)."""

    def one(name: str, path: str, condition: str = "true", **delivery: Any) -> dict[str, Any]:
        return {
            "name": name,
            "condition": f"orders && {condition}",
            "payload": f'{{"n": event.data.n, "spec": {version}}}',
            "sink": calls.target(path),
            "delivery": {"backoff": "100ms", "maxBackoff": "200ms", "ordered": ordered, **delivery},
        }

    both = [one("stays", "/stays"), one("edited", "/edited", f"event.data.n % 2 == {version - 1}")]
    if version == 1:
        return [*both, one(GONE, "/gone"), one(BEFORE, "/renamed")]
    return [*both, one("after", "/after"), one("added", "/added")]


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
async def test_old_and_new_worker_overlap(tmp_path: Path, ordered: bool) -> None:
    port = free_port()
    async with NatsServer(tmp_path / "nats") as server, functions() as calls:
        # Neither ever gets through, so all that they are owed is there in the end.
        calls.answers = {"/gone": Answer(404), "/renamed": Answer(404)}
        paths, files = [], tmp_path / "resources.yaml"
        for version in (1, 2):
            edited = trigger(*subscribers(version, calls, ordered=ordered))
            write(files, bus(server.url), source(port), edited)
            paths.append(await specs(files, tmp_path / f"specs{version}"))
        old = Ofevents(tmp_path, "trigger", "-f", paths[0]["checkout"], worker=True)
        new = Ofevents(tmp_path, "trigger", "-f", paths[1]["checkout"], worker=True)
        shop = Ofevents(tmp_path, "source", "-f", paths[0]["shop/orders"], worker=True)
        async with AsyncExitStack() as running:
            for worker in (shop, old):
                await running.enter_async_context(worker)
                await worker.ready()
            async with posting(port) as posted:
                await posted.some(60)
                began = len(posted.accepted)
                # The old one has decided about them: it may be behind, and the new one quick.
                await calls.all_of("/stays", set(posted.accepted[:began]))
                await running.enter_async_context(new)
                await new.ready()
                await posted.some(60)  # they overlap
                assert await old.terminate() == 0
                ended = posted.accepted[-1]
                await posted.some(60)
            everything = set(posted.accepted)
            await calls.all_of("/stays", everything)
            await _settled(server.url)
            assert [await one.terminate() for one in (shop, new)] == [0, 0]

        first, second = (
            {one.number for one in calls.of("/stays") if one.data["spec"] == version}
            for version in (1, 2)
        )
        assert sorted(calls.numbers("/stays")) == sorted(everything), "lost, or delivered twice"
        assert first >= set(posted.accepted[:began])
        assert {n for n in everything if n > ended + 1} <= second
        assert sorted(calls.numbers("/edited")) == sorted(
            [n for n in first if n % 2 == 0] + [n for n in second if n % 2]
        )
        assert sorted(calls.numbers("/added")) == sorted(calls.numbers("/after")) == sorted(second)
        if ordered:
            for path in ("/stays", "/edited", "/added"):
                assert _out_of_order(calls.numbers(path)) == []

        # Nothing runs: the edited files are found at the next start.
        async with Ofevents(tmp_path, "run", "-f", files) as run:
            for name in (GONE, BEFORE):
                await run.says(f"subscriber {name} of Trigger default/checkout is gone")

            async def retired() -> bool:
                inboxes, _ = await _kept(server.url)
                return not {GONE, BEFORE} & inboxes.keys()

            await until(retired, seconds=90, what="their inboxes are gone")
            assert await run.interrupt() == 0
        inboxes, letters = await _kept(server.url)
        assert (sum(inboxes.values()), letters) == (0, 2 * len(first))
        code, printed = await call(
            "tail", "--bus", server.url, "dead.default.checkout", "-o", "json", "--no-follow"
        )
        assert code == 0, printed
        assert sorted(_owed(printed)) == sorted((name, n) for name in (GONE, BEFORE) for n in first)


def _out_of_order(numbers: list[int]) -> list[str]:
    latest: dict[int, int] = {}
    found = []
    for number in numbers:
        if number < latest.get(number % KEYS, -1):
            found.append(f"{number} after {latest[number % KEYS]}")
        latest[number % KEYS] = number
    return found


async def _kept(url: str) -> tuple[dict[str, int], int]:
    """Messages of each inbox that has any or a consumer, and the number of dead letters."""
    code, printed = await call("topics", "--bus", url, "-o", "json")
    assert code == 0, printed
    seen = json.loads(printed)
    inboxes = {one["group"].rpartition(".")[2]: 0 for one in seen["consumers"]}
    letters = 0
    for row in seen["topics"]:
        if row["kind"] == "inbox":
            inboxes[row["name"].rpartition(".")[2]] = row["messages"]
        if row["kind"] == "dead letters":
            letters += row["messages"]
    return inboxes, letters


async def _settled(url: str) -> None:
    """Wait until only those who refuse everything are owed something."""

    async def nothing_else() -> bool:
        code, printed = await call("topics", "--bus", url, "-o", "json")
        assert code == 0, printed
        groups = json.loads(printed)["consumers"]
        return not any(
            one["lag"] or one["inFlight"]
            for one in groups
            if one["group"].rpartition(".")[2] not in (GONE, BEFORE)
        )

    await until(nothing_else, seconds=120, what="the new subscribers are owed nothing")


def _owed(printed: str) -> list[tuple[str, int]]:
    """Subscriber and number of each dead letter that `tail` printed."""
    letters = [json.loads(line) for line in printed.splitlines()]
    return [
        (one["subscriber"].rpartition("/")[2], one["events"][-1]["data"]["n"]) for one in letters
    ]
