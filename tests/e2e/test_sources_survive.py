"""Each source survives: its worker killed, its server killed, poison, a full window.

A real `ofevents source` on a real bus; the outside world is the source's conformance rig,
which goes on producing meanwhile. Nothing may be lost, poison neither, and what comes twice
is bounded by what a worker has in hand; where ids are the origin's, the bus knows it again.
The world of `cron` is the time, which no rig can feed to a process: see
`test_cron_survives`; a webhook on a full bus is in `test_full_bus`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from ofevents.conformance.source_rig import SourceRig
from ofevents_adapters import mqtt_session
from tests.conformance.rigs import webhook
from tests.e2e.survival import BACK, Survived, survive

SOURCES: Final = {
    "kafka": "kafka.open_rig",
    "nats": "nats.open_jetstream",
    "redis": "redis.open_stream",
    "rabbitmq": "rabbitmq.open_rig",
    "mqtt": "mqtt.open_qos1",
    "file": "file.open_lines",
    "kubernetes": "kubernetes.open_rig",
    "dapr": "dapr_process.open_process",
}
"""The rig of each, among those of conformance."""
EACH: Final = {"kubernetes": 40}
"""Records of each part of a run, 300 where nothing is said."""
BREAKS: Final = {"dapr": 2}
"""How often its server breaks, once where nothing is said: the broker, and the sidecar."""
FIELDS: Final[dict[str, dict[str, Any]]] = {"redis": {"processingTimeout": "3s"}}
"""Of the spec, beside the rig's: what a killed worker had in hand comes after a minute else."""
AGAIN: Final = {"mqtt": mqtt_session.IN_FLIGHT}
"""Of sources whose ids are not the origin's: most records that come again after a fault, a full
window where nothing is said. An MQTT broker sends that many more before it has read an
acknowledgement, and what it has not read when it or the worker dies, it sends again."""
POSITIONS: Final = ("file", "kubernetes")
"""These may have nothing in hand: they wait to write their position into the store."""


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    """What the rigs of a module share is closed after the last test."""
    yield
    for opener in SOURCES.values():
        close = getattr(sys.modules.get(_module(opener)), "close", None)
        if close is not None:
            asyncio.run(close())


def _module(opener: str) -> str:
    return f"tests.conformance.rigs.{opener.partition('.')[0]}"


def world(name: str) -> AbstractAsyncContextManager[Any]:
    """The rig of that source, with a world of its own."""
    opener = getattr(importlib.import_module(_module(SOURCES[name])), SOURCES[name].split(".")[1])
    made: AbstractAsyncContextManager[Any] = opener()
    return made


def judge(capsys: pytest.CaptureFixture[str], name: str, rig: SourceRig, run: Survived) -> None:
    """Print the figures of a run, each with its bound, and hold it to them.

    A webhook's sender gives each record an id, so that those come once, too; and it is
    told of its poison, which is kept by nobody else.
    """
    asked = name == "webhook"
    most = 0 if rig.features.stable_ids or asked else 3 * AGAIN.get(name, rig.in_flight)
    least = 0 if name in POSITIONS else 1
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}: {len(run.keys)} records, {len(run.keys - set(run.came))} lost, "
            f"{run.again} twice (at most {most}); {run.held} in emit with a full window "
            f"({least} to {rig.in_flight}); {run.poison} of poison kept; back in "
            f"{max(run.down):.1f} s at most of {len(run.down)} faults (at most {BACK:.0f})\n"
        )
    assert set(run.came) == run.keys
    assert run.again <= most
    assert least <= run.held <= rig.in_flight, "with a full window, more waits outside"
    assert max(run.down) <= BACK
    # Dead letters have ids of their own: a poison that came again may be there twice.
    kept = rig.poisonable and not asked
    assert (run.poison > 0) == kept, "poison is kept, and nothing else"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SOURCES)
async def test_a_source_survives(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(name) as rig:
        run = await survive(
            tmp_path,
            rig,
            name,
            each=EACH.get(name, 300),
            fields=FIELDS.get(name, {}),
            breaks=rig.breakable * BREAKS.get(name, 1),
            least=int(name not in POSITIONS),
            buries=rig.poisonable,
        )
        judge(capsys, name, rig, run)


@pytest.mark.timeout(900)
async def test_a_webhook_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What got its 202 is never sent again: lost, it would not come at all."""
    async with webhook.open_process() as rig:
        run = await survive(
            tmp_path, rig, "webhook", each=300, fields={}, breaks=0, told=lambda: not rig.sending
        )
        judge(capsys, "webhook", rig, run)
        told = dict(sorted(rig.told.items()))
    with capsys.disabled():
        sys.stdout.write(f"webhook: its senders were told {told} (0: no answer)\n")
    assert set(told) == {0, 202, 400, 503}
    assert told[202] == len(run.keys), "each record has one 202, after which it is not sent again"
    assert told[400] == 1, "the sender of the poison is told"
    least = webhook.SENDERS - rig.in_flight
    assert told[503] >= least, "whoever finds no place before a frozen bus is told so"
