"""The probes and metrics of a process: /healthz, /readyz, /status, /metrics.

Served by `ofevents source` and `ofevents trigger` (a pod's probes, a controller's
poll) and by `ofevents run --port`. It reads `Health` and never touches a worker,
so that a stuck worker cannot make its own probe hang.

    /healthz   200 while every worker makes progress or waits for something by
               name; 503 otherwise, with the names: a restart may help
    /readyz    200 when every worker is ready or suspended; 503 otherwise
    /status    JSON: each worker's state, reason, message, address, waits, in flight
    /metrics   the Prometheus text format
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ofevents import __version__, telemetry
from ofevents.function import server
from ofevents.health import Health, Snapshot

LIVE_LIMIT = 60.0
"""Seconds without a finished step after which a worker counts as dead."""


def row(snapshot: Snapshot) -> dict[str, Any]:
    """One worker as JSON: the fields of `Snapshot`."""
    return dataclasses.asdict(snapshot)


def application(health: Health, *, limit: float = LIVE_LIMIT) -> Starlette:
    """The four routes over that Health."""

    async def healthz(_: Request) -> Response:
        live = health.live(limit)
        return JSONResponse({"live": live, "limit": limit}, 200 if live else 503)

    async def readyz(_: Request) -> Response:
        waiting = [
            {"kind": one.kind, "resource": one.resource, "reason": one.reason}
            for one in health.snapshots()
            if one.state not in ("ready", "suspended")
        ]
        ready = health.ready()
        return JSONResponse({"ready": ready, "notReady": waiting}, 200 if ready else 503)

    async def status(_: Request) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "live": health.live(limit),
                "ready": health.ready(),
                "workers": [row(one) for one in health.snapshots()],
            }
        )

    async def metrics(_: Request) -> Response:
        return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/status", status),
            Route("/metrics", metrics),
        ]
    )


async def serve(
    health: Health, *, host: str, port: int, stop: asyncio.Event, started: Callable[[str], None]
) -> None:
    """Serve the probes until `stop`; `port` 0 takes a free one, shown by `started(url)`.

    Raises:
        ConfigError: the port is taken.
    """
    bound = server.bind(host, port, what="the probes and metrics (--port)")
    await server.serve(application(health), bound, stop=stop, started=started)
