"""What the dapr sinks make of answers: an app's by its status, a binding's by what Dapr says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ofevents.api import dapr
from ofevents.api.platform import DaprComponent
from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import SUBSCRIBER
from ofevents.errors import Misconfigured, OfeventsError, Rejected, Unavailable
from ofevents.event import Event, digest
from ofevents.ports import Delivery
from ofevents.subscriber import open_subscriber
from tests.conformance.rigs.dapr_sinks import dapr_app
from tests.servers.daprd import Daprd
from tests.servers.sink import Answer, Sink

pytestmark = pytest.mark.timeout(120)

EVENT = Event.create(
    id="7",
    source="/shop",
    type="paid",
    data=b'{"a": 1.0}',
    datacontenttype="application/json",
    note="ü",
)
ANSWERS = [
    (204, None),
    (400, Rejected),
    (422, Rejected),
    (401, Misconfigured),
    (404, Misconfigured),
    (429, Unavailable),
    (500, Unavailable),
    (503, Unavailable),
]


@pytest.mark.parametrize(("status", "expected"), ANSWERS)
async def test_an_apps_status_means_what_a_functions_does(
    status: int, expected: type[OfeventsError] | None
) -> None:
    async with dapr_app() as rig, rig.open(ResolvedDelivery()) as subscriber:
        rig.app.answer = lambda seen: Answer(status, (("retry-after", "7"),))
        if expected is None:
            assert (await subscriber.deliver(Delivery(SUBSCRIBER, (EVENT,)))).status == status
        else:
            with pytest.raises(OfeventsError) as caught:
                await subscriber.deliver(Delivery(SUBSCRIBER, (EVENT,)))
            assert type(caught.value) is expected
            if isinstance(caught.value, Unavailable):
                assert caught.value.delay == 7
        # The sidecar itself asks its app for /dapr/config and /dapr/subscribe.
        (seen,) = [one for one in rig.app.seen if one.url == "/orders/paid"]
        assert seen.headers["idempotency-key"] == digest("/shop", "7", *SUBSCRIBER.split("/"))
        (event,) = seen.events
        assert (event.attributes, event.data) == (EVENT.attributes, EVENT.data)


async def test_an_app_that_is_not_there_can_come_back(tmp_path: Path) -> None:
    async with dapr_app() as rig, rig.open(ResolvedDelivery()) as subscriber:
        await rig.end_app()
        with pytest.raises(Unavailable) as caught:
            await subscriber.deliver(Delivery(SUBSCRIBER, (EVENT,)))
        assert not isinstance(caught.value, Misconfigured)


def binding(daprd: Daprd, name: str = "out", **fields: Any) -> SinkTarget:
    given = {"componentName": name, "operation": "post", "sidecar": daprd.address, **fields}
    return SinkTarget(sink="dapr", spec=given)


async def send(target: SinkTarget, format: Any = "raw") -> None:
    options = ResolvedDelivery(format=format, timeout=20)
    async with open_subscriber(
        target, bus=None, subscriber_id=SUBSCRIBER, clock=SystemClock(), options=options
    ) as subscriber:
        await subscriber.deliver(Delivery(SUBSCRIBER, (EVENT,)))


async def test_what_a_binding_says(tmp_path: Path) -> None:
    async with Sink() as web:
        url = {"name": "url", "value": web.url}
        component = DaprComponent.model_validate({"type": "bindings.http", "metadata": [url]})
        async with Daprd(tmp_path, [dapr.output_component("out", component)]) as daprd:
            await send(binding(daprd, metadata={"path": "/x", "X-Shop": "a"}))
            (seen,) = web.seen
            assert (seen.url, seen.body, seen.headers["x-shop"]) == ("/x", EVENT.data, "a")
            assert seen.headers["idempotency-key"] == digest("out", "/shop", "7")
            for status, expected in ANSWERS[1:]:
                web.answer = lambda seen, status=status: Answer(status)  # type: ignore[misc]
                with pytest.raises(OfeventsError) as caught:
                    await send(binding(daprd))
                assert type(caught.value) is expected, f"{status}: {caught.value}"
            with pytest.raises(Misconfigured, match="does not support operation"):
                await send(binding(daprd, operation="dance"))
            with pytest.raises(Misconfigured, match="couldn't find output binding"):
                await send(binding(daprd, name="none"))
            await daprd.kill()
            with pytest.raises(Unavailable) as caught:
                await send(binding(daprd))
            assert not isinstance(caught.value, Misconfigured)
