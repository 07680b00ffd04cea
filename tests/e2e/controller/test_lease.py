"""A holder that could not renew its lease in time writes nothing more, whatever kept it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ofevents.clock import ManualClock, SystemClock
from ofevents.cluster import kinds
from ofevents.cluster import lease as leases
from ofevents.cluster.client import Api
from ofevents.cluster.lease import DEADLINE, DURATION, Lease, Lost
from ofevents.controller import run
from ofevents.controller.admission import Admission
from ofevents.controller.render import Platform
from tests.e2e.controller.rig import IMAGE, SYSTEM, TOKEN, Cluster
from tests.servers import until

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """As the controller is logged in."""
    config = cluster.api.kubeconfig(cluster.folder / "lease.kubeconfig", TOKEN)
    async with Api(config) as one:
        yield one


def note(name: str) -> Any:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def test_nothing_is_written_after_the_deadline(cluster: Cluster, api: Api) -> None:
    clock = ManualClock()
    lease = Lease(api, SYSTEM, "late", "one", clock=clock)
    with pytest.raises(Lost):
        lease.check()  # not held yet
    await lease.take()
    api.guard = lease.check
    await clock.advance(DEADLINE - 0.1)
    await api.apply(note("in-time"))
    await clock.advance(0.2)
    for write in (
        api.apply(note("late")),
        api.create(kinds.CONFIG_MAP, note("late")),
        api.patch(kinds.CONFIG_MAP, "shop", "in-time", {"data": {"late": "1"}}),
        api.delete(kinds.CONFIG_MAP, "shop", "in-time", "any"),
    ):
        with pytest.raises(Lost):
            await write
    assert await cluster.get(kinds.CONFIG_MAP, "late") is None
    assert "data" not in await cluster.get(kinds.CONFIG_MAP, "in-time")
    await lease.release()  # That much it may still say.
    assert (await cluster.get(kinds.LEASE, "late", SYSTEM))["spec"]["holderIdentity"] == ""


async def test_a_renewal_counts_from_when_it_was_asked_for(
    cluster: Cluster, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others count from when the server had it, which is before the answer is here."""
    clock = ManualClock()
    lease = Lease(api, SYSTEM, "slow", "one", clock=clock)
    renew, took = api.replace, 5.0

    async def slow(*given: Any) -> Any:
        found = await renew(*given)
        await clock.advance(took)
        return found

    await lease.take()
    monkeypatch.setattr(api, "replace", slow)
    await lease.take()
    lease.check()
    await clock.advance(DURATION - took - 0.1)
    with pytest.raises(Lost):
        lease.check()


async def test_it_is_renewed_while_admission_is_configured(
    cluster: Cluster, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def slow(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(run, "configure", slow)
    # A machine that stands still for some seconds does not lose it.
    monkeypatch.setattr(leases, "DEADLINE", 60.0)
    lease = Lease(api, SYSTEM, "configures", "one", clock=SystemClock())
    await lease.take()
    options = run.Options(platform=Platform(image=IMAGE), admission=Admission(SYSTEM))
    working = asyncio.create_task(run._work(api, options, lease, "one", SystemClock()))

    async def stamp() -> str:
        return str((await cluster.get(kinds.LEASE, "configures", SYSTEM))["spec"]["renewTime"])

    try:
        await asyncio.wait_for(begun.wait(), 60)
        before = await stamp()

        async def renewed() -> bool:
            return await stamp() != before

        await until(renewed, seconds=30, what="the lease is renewed")
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
