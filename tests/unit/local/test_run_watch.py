"""`ofevents run --watch`: changes are applied, mistakes are not, nothing is lost."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.servers import free_port, until
from tests.unit.local.runs import SOURCES, Folder, once, running

pytestmark = pytest.mark.timeout(300)


async def test_changes_mistakes_and_deletions(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    at = str(folder.path)
    async with running("-f", at, "--watch", *folder.charge) as run:
        await run.ready("shop/orders", "checkout", "charge")
        await run.until(lambda: "started" in run.texts(), "the function listens")

        folder.trigger(least="")
        await run.until(lambda: "kept the last good state" in run.texts(), "the mistake")
        assert "trigger.yaml:" in run.texts()
        order = await folder.order(150)
        await run.until(lambda: "matched delivered" in run.ends(order), "the old filter")

        folder.trigger(least=1000)
        await run.until(lambda: "changed Trigger default/checkout" in run.texts(), "the change")
        small, big = await folder.order(150), await folder.order(1500)
        await run.until(lambda: run.ends(big) == {"matched delivered"}, "the new filter")
        await run.until(lambda: run.ends(small) == {"filtered"}, "the new filter")

        (folder.path / "trigger.yaml").unlink()
        await run.until(lambda: "gone Trigger default/checkout" in run.texts(), "the deletion")
        order = await folder.order(1500)
        await run.until(lambda: run.ends(order) == {"kept"}, "nobody reads it")
        _, out, _ = await once("topics", "-f", at, "-o", "json")
        assert json.loads(out)["consumers"] == [], "deletionPolicy: Delete"
        await run.until(lambda: "checkout" not in run.states(), "the table")


async def test_no_order_is_lost_while_a_trigger_changes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    async with running("-f", str(folder.path), "--watch", *folder.charge) as run:
        await run.ready("shop/orders", "checkout", "charge")
        await run.until(lambda: "started" in run.texts(), "the function listens")
        orders: list[str] = []

        async def keep_ordering() -> None:
            while True:
                orders.append(await folder.order(2000))
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            ordering = group.create_task(keep_ordering())
            for changes in (1, 2):
                folder.trigger(least=100 + changes)
                enough = len(orders) + 5
                await run.until(
                    lambda: (
                        run.texts().count("changed Trigger") == changes  # noqa: B023
                        and len(orders) >= enough  # noqa: B023
                    ),
                    "the change, and orders while it happened",
                )
            ordering.cancel()
        await run.until(
            lambda: all("matched delivered" in run.ends(order) for order in orders),
            f"all {len(orders)} orders",
        )


async def test_a_source_that_moves_and_a_new_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    moved, added = free_port(), free_port()
    async with running("-f", str(folder.path), "--watch") as run:
        await run.ready("shop/orders")
        (folder.path / "more.yaml").write_text(
            SOURCES.format(webhook=added).replace("name: shop", "name: outlet")
        )
        await run.ready("outlet/orders")
        (folder.path / "sources.yaml").write_text(SOURCES.format(webhook=moved))
        await run.until(
            lambda: str(moved) in run.row("shop/orders")["address"], "it listens elsewhere"
        )
        await folder.order(1, port=moved)
        await folder.order(1, port=added)
        (folder.path / "more.yaml").unlink()
        await run.until(lambda: "gone EventSource default/outlet/orders" in run.texts(), "it goes")


@pytest.mark.parametrize("watched", [True, False])
async def test_a_renamed_subscriber_leaves_dead_letters(tmp_path: Path, watched: bool) -> None:
    """Renamed under `--watch`, or while nothing ran."""
    folder = Folder(tmp_path)
    at = str(folder.path)
    trigger = folder.path / "trigger.yaml"
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(running("-f", at, "--watch"))
        await run.ready("shop/orders", "checkout")
        orders = [await folder.order(1000 + number) for number in range(4)]
        await run.until(
            lambda: any("matched inboxed" in run.ends(order) for order in orders), "the inbox"
        )
        if not watched:
            assert await run.stop() == 0
            await stack.aclose()
        trigger.write_text(trigger.read_text().replace("name: charge", "name: bill"))
        if not watched:
            run = await stack.enter_async_context(running("-f", at))
        told = "subscriber charge of Trigger default/checkout is gone"
        await run.until(lambda: any(told in one["text"] for one in run.of("warning")), "it is told")

        async def settled() -> bool:
            _, out, _ = await once("topics", "-f", at, "-o", "json")
            topics = {row["name"]: row["messages"] for row in json.loads(out)["topics"]}
            groups = [one["group"] for one in json.loads(out)["consumers"]]
            inbox = "inbox.default.checkout.charge"
            return "dead.default.checkout" in topics and inbox not in [*topics, *groups]

        # What a stopping worker was just being given comes after the ack wait of 30 s.
        await until(settled, seconds=150, what="its inbox is in the dead letters")


async def test_a_trigger_that_went_while_nothing_ran_is_told(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    async with running("-f", str(folder.path)) as run:
        await run.ready("checkout")
    (folder.path / "trigger.yaml").unlink()
    async with running("-f", str(folder.path)) as run:
        await run.until(lambda: "keeps events for Trigger default/checkout" in run.texts(), "it")


async def test_a_source_without_its_secret_waits_for_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    sources = folder.path / "sources.yaml"
    auth = "auth: {bearer: {valueFrom: {secretKeyRef: {name: token, key: t}}}}"
    sources.write_text(sources.read_text().replace("path: /orders", f"path: /orders, {auth}"))
    async with running("-f", str(folder.path), "--watch") as run:
        await run.until(lambda: run.states().get("shop/orders") == "stalled", "it is blocked")
        assert "Secret default/token" in run.row("shop/orders")["message"]
        (folder.path / "secret.yaml").write_text(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {t: hush}\n"
        )
        await run.ready("shop/orders")
        assert "hush" not in str(run.lines)
