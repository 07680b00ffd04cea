"""What `ofevents topics` shows: the bus's topics and consumers, sorted and named."""

from __future__ import annotations

from typing import Any

import orjson
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ofevents.api.resolved import ResolvedBus
from ofevents.errors import ConfigError
from ofevents.local.find import connect
from ofevents.local.names import typed
from ofevents.ports import BusReport

_KINDS = {"event": "event", "topic": "topic", "inbox": "inbox", "dead": "dead letters"}


async def inspect(resolved: ResolvedBus) -> BusReport:
    """The bus's report.

    Raises:
        ConfigError: the bus does not answer, or does not count.
    """
    async with connect(resolved) as bus:
        if not bus.features.counts:
            raise ConfigError(
                f"EventBus {resolved.name}: a {resolved.driver} bus counts neither messages nor "
                "lag; ask its broker"
            )
        return await bus.inspect()


def _rows(report: BusReport, namespace: str) -> list[dict[str, Any]]:
    rows = [
        {
            "topic": typed(one.topic, namespace),
            "kind": _KINDS.get(one.topic.split(".")[0], "other"),
            "name": one.topic,
            "messages": one.messages,
            "bytes": one.size,
        }
        for one in report.topics
    ]
    order = list(_KINDS.values())
    return sorted(rows, key=lambda row: (order.index(row["kind"]), row["name"]))


def as_json(report: BusReport, namespace: str) -> str:
    """`{"topics": [...], "consumers": [...]}`."""
    consumers = [
        {
            "group": one.group,
            "topics": [typed(topic, namespace) for topic in one.topics],
            "lag": one.pending,
            "inFlight": one.in_flight,
        }
        for one in sorted(report.consumers, key=lambda one: one.group)
    ]
    return orjson.dumps({"topics": _rows(report, namespace), "consumers": consumers}).decode()


def as_tables(report: BusReport, namespace: str) -> None:
    """Print two tables: what is held, and who is how far behind."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    held = Table(box=SIMPLE, pad_edge=False, show_edge=False, header_style="bold")
    for heading in ("TOPIC", "KIND"):
        held.add_column(heading, overflow="fold")
    for heading in ("MESSAGES", "BYTES"):
        held.add_column(heading, justify="right")
    for row in _rows(report, namespace):
        held.add_row(row["topic"], row["kind"], f"{row['messages']:,}", f"{row['bytes']:,}")
    console.print(held)
    console.print()
    behind = Table(box=SIMPLE, pad_edge=False, show_edge=False, header_style="bold")
    for heading in ("CONSUMER", "TOPICS"):
        behind.add_column(heading, overflow="fold")
    for heading in ("LAG", "IN FLIGHT"):
        behind.add_column(heading, justify="right")
    for one in sorted(report.consumers, key=lambda one: one.group):
        read = ", ".join(typed(topic, namespace) for topic in one.topics)
        behind.add_row(one.group, read, f"{one.pending:,}", f"{one.in_flight:,}")
    console.print(behind)
