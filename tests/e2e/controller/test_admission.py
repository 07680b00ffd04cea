"""`kubectl apply` is refused what `ofevents validate` refuses, with its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ofevents.cluster import kinds
from ofevents.controller.admission import NAME
from tests.e2e.controller.rig import IMAGE, SYSTEM, TOKEN, Cluster, cron, resource, trigger
from tests.e2e.processes import OFEVENTS, Program, call
from tests.servers import free_port, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

OPEN = {"insecureSkipVerify": True}
BAD = [
    trigger("condition", subscribers=[{"name": "a", "condition": "tikc", "topic": "x"}]),
    trigger("payload", subscribers=[{"name": "a", "topic": "x", "payload": "event.dta"}]),
    cron("schedule", cron={"tick": {"schedule": "61 * * * *"}}),
    resource("EventBus", "open", {"jetstream": {"url": "nats://a", "tls": OPEN}}),
    resource("ClusterEventBus", "open", {"jetstream": {"url": "nats://a", "tls": OPEN}}),
]
"""What the CRDs' own rules let through; what they refuse, `test_rules` has."""


async def validated(folder: Path) -> dict[str, list[str]]:
    """What `ofevents validate` has against them, by the resource's name."""
    file = folder / "bad.yaml"
    file.write_text(yaml.safe_dump_all(BAD))
    status, output = await call("validate", file, "-o", "json")
    assert status == 1
    found: dict[str, list[str]] = {}
    for each in json.loads(output[output.index("{") :])["problems"]:
        if each["severity"] == "error":
            name = each["resource"].rpartition(" ")[2].rpartition("/")[2]
            found.setdefault(name, []).append(f"{each['path']}: {each['message']}")
    return found


async def choose(cluster: Cluster, policy: str) -> str:
    """Another failurePolicy; the configuration's version with it."""
    live = await cluster.get(kinds.WEBHOOK, NAME, "")
    hooks = [{**each, "failurePolicy": policy} for each in live["webhooks"]]
    changed = await cluster.merge(kinds.WEBHOOK, NAME, {"webhooks": hooks}, namespace="")
    return str(changed["metadata"]["resourceVersion"])


async def fails(cluster: Cluster) -> bool:
    """Whether the API server, which hears of a configuration a moment after it has stored it,
    refuses what nobody has checked; nothing is left."""
    try:
        await cluster.create(cron("unchecked"))
    except RuntimeError as refused:
        assert "failed calling webhook" in str(refused)
        return True
    await cluster.delete(kinds.EVENT_SOURCE, "unchecked")
    return False


async def test_what_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    config = cluster.api.kubeconfig(tmp_path / "kubeconfig", TOKEN)
    command: list[Any] = [OFEVENTS, "controller", "--image", IMAGE, "--kubeconfig", config]
    command += ["--admission-port", str(port), "--admission-url", f"https://localhost:{port}"]

    async def asks() -> bool:
        """The API server knows where, and something answers there."""
        if await cluster.get(kinds.WEBHOOK, NAME, "") is None:
            return False
        try:
            await cluster.create(BAD[0])
        except RuntimeError as refused:
            return "denied the request" in str(refused)
        await cluster.delete(kinds.TRIGGER, "condition")
        return False

    expected = await validated(tmp_path)
    async with Program(tmp_path, *command) as program:
        await until(asks, seconds=90, what="admission answers")
        for manifest in BAD:
            with pytest.raises(RuntimeError) as refused:
                await cluster.create(manifest)
            said = json.loads(str(refused.value).partition(": ")[2])["message"]
            problems = expected[manifest["metadata"]["name"]]
            assert problems and all(each in said for each in problems), said
        await cluster.create(cron("good"), trigger("good"))
        await program.terminate()
    secret = await cluster.get(kinds.SECRET, NAME, SYSTEM)
    assert set(secret["data"]) == {"ca.crt", "tls.crt", "tls.key"}
    # Nobody answers: what is wrong is told by its conditions instead.
    await cluster.create(BAD[0])
    # Unless whoever installed it wants it otherwise, which a controller does not change.
    version = await choose(cluster, "Fail")
    await until(lambda: fails(cluster), seconds=60, what="the API server takes nothing unchecked")
    async with Program(tmp_path, *command):
        told = await cluster.becomes(kinds.TRIGGER, "condition", "Stalled", "Invalid", seconds=90)
        assert all(each in told["message"] for each in expected["condition"]), told

        async def answers() -> bool:
            try:
                await cluster.create(cron("checked"))
            except RuntimeError:
                return False
            return True

        await until(answers, seconds=60, what="it answers again")
        # What is wrong can still be changed where nobody reads it, and be deleted.
        held = {"metadata": {"finalizers": ["example.com/held"]}}
        await cluster.merge(kinds.TRIGGER, "condition", held)
        await cluster.delete(kinds.TRIGGER, "condition")
        await cluster.merge(kinds.TRIGGER, "condition", {"metadata": {"finalizers": []}})
        assert await cluster.get(kinds.TRIGGER, "condition") is None
    again = await cluster.get(kinds.WEBHOOK, NAME, "")
    assert again["metadata"]["resourceVersion"] == version
    await cluster.api.call("DELETE", kinds.WEBHOOK.path(name=NAME))

    async def asks_nobody() -> bool:
        return not await fails(cluster)

    await until(asks_nobody, seconds=60, what="the API server asks nobody any more")
