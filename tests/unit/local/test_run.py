"""`ofevents run` on the real embedded server: the flow, the end, and a second run."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.servers import free_port, until
from tests.unit.local.runs import Folder, once, running

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_an_order_flows_to_the_function_and_the_topic(folder: Folder) -> None:
    at = str(folder.path)
    async with running("-f", at, *folder.charge) as run:
        await run.ready("default", "shop/orders", "checkout", "charge")
        assert run.row("default")["address"].endswith("(embedded)")
        assert any("curl -i" in line["text"] for line in run.of("note"))
        await run.until(lambda: "started" in run.texts(), "the function listens")
        big, small = await folder.order(150), await folder.order(50)
        await run.until(lambda: len(run.of("way")) == 3, "two are delivered, one is filtered")
        assert run.ends(big) == {"matched delivered"}
        assert run.ends(small) == {"filtered"}
        await run.until(lambda: "charged 150" in run.texts(), "the function's own line")
        assert [way["topic"] for way in run.of("way")] == ["shop/orders"] * 3

        code, out, _ = await once("topics", "-f", at, "-o", "json")
        counts = {row["topic"]: row["messages"] for row in json.loads(out)["topics"]}
        assert (code, counts["shop/orders"], counts["audit"]) == (0, 2, 1)

        children = psutil.Process(run.process.pid).children(recursive=True)
        began = time.monotonic()
        assert await run.stop() == 0
        assert time.monotonic() - began < 15  # nobody is waited for
        assert "nothing was in flight" in run.texts()
        assert not [one for one in children if one.is_running() and one.status() != "zombie"]
        assert run.errors == b""
    assert not (folder.path / ".ofevents" / "state.json").exists()


async def test_a_second_run_names_the_first_and_leaves_it_alone(folder: Folder) -> None:
    async with running("-f", str(folder.path), *folder.charge) as run:
        await run.ready("shop/orders")
        code, _, err = await once("run", "-f", str(folder.path))
        assert code == 1
        assert f"pid {run.process.pid}" in err
        assert "--data" in err
        order = await folder.order(150)
        await run.until(lambda: "matched delivered" in run.ends(order), "the first goes on")


async def test_a_port_in_use_stalls_one_source_until_it_is_free(folder: Folder) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", folder.webhook))
        holder.listen()
        async with running("-f", str(folder.path), *folder.charge) as run:
            await run.until(lambda: run.states().get("shop/orders") == "stalled", "it is stalled")
            assert str(folder.webhook) in run.row("shop/orders")["message"]
            assert run.states()["checkout"] == "ready"
            holder.close()
            await run.ready("shop/orders")


async def test_after_kill_9_it_goes_on_and_ends_what_was_left(folder: Folder) -> None:
    at = str(folder.path)
    folder.trigger(least=100, suspend=True)  # what it does not take yet has to be there later
    async with running("-f", at) as run:
        await run.ready("shop/orders")
        await run.until(lambda: run.states().get("checkout") == "suspended", "it is suspended")
        await folder.order(150)
        left = psutil.Process(run.process.pid).children(recursive=True)
        assert left, "the nats-server"
        run.process.kill()
        await run.process.wait()
    folder.trigger(least=100)
    async with running("-f", at, *folder.charge) as run:
        await run.until(lambda: "charged 150" in run.texts(), "the order is charged", seconds=90)
        assert not [one for one in left if one.is_running() and one.status() != "zombie"]


async def test_programs_of_a_killed_run_are_ended_by_the_next(folder: Folder) -> None:
    at = str(folder.path)
    async with running("-f", at, *folder.charge) as run:
        await run.ready("charge")
        await run.until(lambda: "started" in run.texts(), "the function listens")
        orphan = psutil.Process(int(run.row("charge")["address"].removeprefix("pid ")))
        run.process.kill()
        await run.process.wait()
        assert orphan.is_running()
        async with running("-f", at, *folder.charge) as again:
            await again.ready("charge")
            assert not orphan.is_running() or orphan.status() == "zombie"


async def test_mistakes_are_all_shown_and_nothing_starts(folder: Folder) -> None:
    folder.trigger(least="")
    sources = folder.path / "sources.yaml"
    sources.write_text(sources.read_text().replace("port:", "prot:"))
    code, out, err = await once("run", "-f", str(folder.path))
    assert code == 1
    assert "trigger.yaml:9" in out
    assert "sources.yaml:8" in out
    assert "port" in out
    assert "2 errors, " in out.splitlines()[-1]
    assert "Traceback" not in out + err
    assert not (folder.path / ".ofevents").exists()


async def test_no_resources_is_a_sentence(tmp_path: Path) -> None:
    code, out, err = await once("run", "-f", str(tmp_path))
    assert (code, "has no .yaml" in out + err) == (1, True)


async def test_a_bus_that_does_not_answer_is_waited_for(folder: Folder) -> None:
    (folder.path / "bus.yaml").write_text(
        "apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: default}\n"
        f"spec: {{jetstream: {{url: 'nats://127.0.0.1:{free_port()}'}}}}\n"
    )
    async with running("-f", str(folder.path)) as run:
        await run.until(
            lambda: (
                run.states().get("default/default") == "stalled"
                or run.states().get("default") == "stalled"
            ),
            "the bus is stalled",
        )
        assert await run.stop(signal.SIGTERM) == 0


async def test_a_second_ctrl_c_ends_at_once(folder: Folder) -> None:
    # A function that never answers keeps the Trigger draining.
    folder.hang()
    async with running("-f", str(folder.path), *folder.charge) as run:
        await run.ready("shop/orders", "checkout", "charge")
        await run.until(lambda: "started" in run.texts(), "the function listens")
        await folder.order(150)
        await run.until(lambda: "called" in run.texts(), "the Trigger has it in hand")
        children = psutil.Process(run.process.pid).children(recursive=True)
        run.process.send_signal(signal.SIGINT)
        await run.until(lambda: "stopping" in run.texts(), "it drains")
        assert await run.stop() == 130  # it would drain for 4.8 s, and end with another
        await until(
            lambda: not [p for p in children if p.is_running() and p.status() != "zombie"],
            seconds=20,
            what="no child is left",
        )


async def test_what_is_still_in_flight_is_said(folder: Folder) -> None:
    folder.hang()
    async with running("-f", str(folder.path), *folder.charge) as run:
        await run.ready("shop/orders", "checkout", "charge")
        await run.until(lambda: "started" in run.texts(), "the function listens")
        await folder.order(150)
        await run.until(lambda: "called" in run.texts(), "the Trigger has it in hand")
        assert await run.stop() == 0
        assert "still in flight at Trigger default/checkout" in run.texts()


async def test_log_level_is_that_of_each_resource(folder: Folder) -> None:
    trigger = folder.path / "trigger.yaml"
    trigger.write_text(trigger.read_text().replace("spec:", "spec:\n  logLevel: debug"))
    async with running("-f", str(folder.path), "--log-format", "json", *folder.charge) as run:
        await run.ready("shop/orders", "checkout")
        order = await folder.order(150)
        await run.until(lambda: "matched delivered" in run.ends(order), "it is delivered")
        assert await run.stop() == 0
    lines = [json.loads(line) for line in run.errors.splitlines()]
    assert any(line["level"] == "debug" and line.get("id") == order for line in lines)
    assert {line["level"] for line in lines if "entry" in line} <= {"error"}


async def test_what_ends_at_the_source_is_told(folder: Folder) -> None:
    sources = folder.path / "sources.yaml"
    text = sources.read_text().replace(
        "path: /orders", "path: /orders, filter: event.data.amount > 5"
    )
    sources.write_text(text)
    async with running("-f", str(folder.path)) as run:
        await run.ready("shop/orders", "checkout")
        await folder.order(1)
        await run.until(
            lambda: "EventSource shop: 1 event received that its filter" in run.texts(), "the count"
        )
        order = await folder.order("many")  # type: ignore[arg-type]
        await run.until(lambda: bool(run.of("way")), "the dead letter")
        way = run.of("way")[0]
        assert (way["id"], way["topic"]) == (order, "shop/orders")
        assert [step["step"] for step in way["steps"]] == ["received", "dead-lettered"]
        assert "EvaluationError" in way["steps"][1]["detail"]
