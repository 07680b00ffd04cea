"""Edits under `ofevents run --watch` while orders come: each is treated as one spec says.

One subscriber is edited, a field at a time. The other one gets every order and tells,
by its payload, which version of the file has decided about it: an order is decided for
all subscribers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.orders import Calls, Posted, bus, functions, posting, source, trigger, write
from tests.e2e.processes import Ofevents, call
from tests.servers import free_port, until
from tests.servers.sink import Answer

pytestmark = pytest.mark.timeout(400)

SLOW = Answer(delay=0.03)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the edited subscriber; `rest` is that of `n % 3` in its condition."""

    number: int
    rest: int = 0
    payload: str = "first"
    path: str = "/a"
    concurrency: int = 8

    def documents(self, calls: Calls, **spec: Any) -> list[dict[str, Any]]:
        edited = {
            "name": "edited",
            "condition": f"event.data.n % 3 == {self.rest}",
            "payload": f'{{"n": event.data.n, "tag": "{self.payload}"}}',
            "sink": calls.target(self.path),
            "delivery": {"concurrency": self.concurrency},
        }
        every = {
            "name": "every",
            "payload": f'{{"n": event.data.n, "version": {self.number}}}',
            "sink": calls.target("/every"),
        }
        policy = {"deletionPolicy": "Retain", "startFrom": "now", **spec}
        return [trigger(edited, every, **policy)]


@dataclass
class Editing:
    """The file under the eyes of `run --watch`, and from which order on a version applies.

    Attributes:
        applied: version -> how many orders had been begun when it was said to apply.
        written: version -> how many had been when it was written.
    """

    file: Path
    run: Ofevents
    calls: Calls
    posted: Posted
    applied: dict[int, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)

    async def edit(self, version: Version, *, told: str = "applied: changed") -> Version:
        """Write it, wait until it applies, and for some orders that it decides."""
        times = self.run.log.count(told) + 1
        self.written[version.number] = self.posted.begun
        write(self.file, *version.documents(self.calls))
        await self.run.says(told, times=times)
        self.applied[version.number] = self.posted.begun
        await self.posted.some(30)

        def decides() -> bool:
            return any(one.data["version"] == version.number for one in self.calls.of("/every"))

        await until(decides, seconds=60, what=f"version {version.number} decides about an order")
        return version


async def test_every_order_is_treated_as_the_spec_in_force_says(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "resources"
    folder.mkdir()
    write(folder / "source.yaml", bus(""), source(port))
    file = folder / "trigger.yaml"
    async with functions() as calls:
        calls.answers["/b"] = SLOW
        versions = [Version(1)]
        write(file, *versions[0].documents(calls))
        async with Ofevents(tmp_path, "run", "-f", folder, "--watch") as run:
            await run.says(f"http://127.0.0.1:{port}/orders")
            async with posting(port) as posted:
                made = Editing(file, run, calls, posted, {1: 0}, {1: 0})
                await posted.some(30)
                await until(lambda: bool(calls.of("/every")), seconds=60, what="it decides")
                versions.append(await made.edit(replace(versions[-1], number=2, rest=1)))
                versions.append(await made.edit(replace(versions[-1], number=3, payload="next")))
                versions.append(await made.edit(replace(versions[-1], number=4, path="/b")))
                versions.append(await made.edit(replace(versions[-1], number=5, concurrency=1)))

                write(file, *replace(versions[-1], number=6, payload='" + ').documents(calls))
                await run.says("kept the last good state")
                await posted.some(30)
                write(file, *versions[-1].documents(calls))  # as it was

                file.unlink()
                await run.says("gone Trigger default/checkout")
                await posted.some(30)  # they wait for it: it keeps its position
                again = replace(versions[-1], number=7, rest=2, concurrency=8)
                versions.append(await made.edit(again, told="new Trigger default/checkout"))
            everything = set(posted.accepted)
            await calls.all_of("/every", everything)
            by_version = {one.number: one.data["version"] for one in calls.of("/every")}
            expected = _expected(versions, by_version)
            await until(
                lambda: len(_treated(calls)) >= len(expected),
                seconds=120,
                what=f"{len(expected)} orders at the edited subscriber",
            )
            assert sorted(calls.numbers("/every")) == sorted(everything), "lost, or twice"
            assert _treated(calls) == expected
            assert {v.number for v in versions} == set(by_version.values())
            for number, version in by_version.items():
                later = [v for v, begun in made.applied.items() if begun <= number]
                assert version >= max(later), f"order {number} came after {max(later)} applied"
            _check_concurrency(calls, by_version)
            assert await run.interrupt() == 0


def _expected(versions: list[Version], by_version: dict[int, int]) -> list[tuple[int, str, str]]:
    known = {version.number: version for version in versions}
    return sorted(
        (number, known[version].path, known[version].payload)
        for number, version in by_version.items()
        if number % 3 == known[version].rest
    )


def _treated(calls: Calls) -> list[tuple[int, str, str]]:
    return sorted(
        (one.number, one.path, one.data["tag"]) for path in ("/a", "/b") for one in calls.of(path)
    )


def _check_concurrency(calls: Calls, by_version: dict[int, int]) -> None:
    """8 and 1, as the version says that decided about the order."""
    most = {4: 0, 5: 0}
    for one in calls.of("/b"):
        version = by_version[one.number]
        if version in most:
            most[version] = max(most[version], one.at_once)
    assert most[5] == 1
    assert 1 < most[4] <= 8


async def test_a_deleted_trigger_begins_anew(tmp_path: Path) -> None:
    """Its file is removed and comes back: by default its position has gone with it."""
    port = free_port()
    folder = tmp_path / "resources"
    folder.mkdir()
    write(folder / "source.yaml", bus(""), source(port))
    file = folder / "trigger.yaml"
    async with functions() as calls:
        documents = Version(1).documents(calls, deletionPolicy="Delete")
        write(file, *documents)
        async with Ofevents(tmp_path, "run", "-f", folder, "--watch") as run:
            await run.says(f"http://127.0.0.1:{port}/orders")
            async with posting(port) as posted:
                await posted.some(20)
            await calls.all_of("/every", set(posted.accepted))
            file.unlink()
            await run.says("gone Trigger default/checkout")
            async with posting(port) as unread:
                await unread.some(20)
            before = len(calls.of("/every"))
            write(file, *documents)
            await run.says("new Trigger default/checkout")
            async with posting(port) as later:
                await later.some(20)
            await until(
                lambda: len(calls.of("/every")) >= before + len(later.accepted),
                seconds=60,
                what="what came after it was back",
            )
            assert sorted(calls.numbers("/every")[before:]) == later.accepted
            assert await run.interrupt() == 0


async def test_a_subscriber_that_comes_back_keeps_what_it_was_owed(tmp_path: Path) -> None:
    """It is removed, and back before its deliveries are due: none has become a dead letter."""
    port = free_port()
    folder = tmp_path / "resources"
    folder.mkdir()
    write(folder / "source.yaml", bus(""), source(port))
    file = folder / "trigger.yaml"
    async with functions() as calls:
        stays = {"name": "stays", "sink": calls.target("/stays")}
        late = {"name": "late", "sink": calls.target("/late"), "delivery": {"deliverAfter": "15s"}}
        write(file, trigger(stays, late))
        async with Ofevents(tmp_path, "run", "-f", folder, "--watch") as run:
            await run.says(f"http://127.0.0.1:{port}/orders")
            async with posting(port) as posted:
                await posted.some(20)
            await calls.all_of("/stays", set(posted.accepted))
            write(file, trigger(stays))
            await run.says("subscriber late of Trigger default/checkout is gone")
            await run.says("applied: changed")
            write(file, trigger(stays, late))
            await run.says("applied: changed", times=2)
            assert calls.of("/late") == [], "it was due before the edits were over"
            await calls.all_of("/late", set(posted.accepted))
            assert sorted(calls.numbers("/late")) == posted.accepted
            code, printed = await call("topics", "-f", folder, "-o", "json")
            assert (code, '"dead letters"' in printed) == (0, False)
            assert await run.interrupt() == 0
