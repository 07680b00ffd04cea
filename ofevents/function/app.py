"""`Function`: collects handlers, and runs them as one process.

Environment of `run`: PORT and HOST (where it listens), OFEVENTS_BUS (a ResolvedBus
as JSON) or OFEVENTS_BUS_URL (`nats://host:4222`), OFEVENTS_NAMESPACE. `ofevents
run --with` sets the bus; in a pod the controller does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ofevents import process, telemetry
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.event import Event
from ofevents.function import server
from ofevents.function.call import Context, Handler, check
from ofevents.function.http import endpoint
from ofevents.function.topic import Subscription, consume, group_name
from ofevents.ports import Bus

H = TypeVar("H", bound=Handler)


class Function:
    """A named function: HTTP handlers, topic handlers, or both."""

    def __init__(self, name: str, *, namespace: str | None = None) -> None:
        self.name = name
        self.namespace = namespace or os.environ.get("OFEVENTS_NAMESPACE", "default")
        self.subscriptions: list[Subscription] = []
        self._routes: dict[str, Handler] = {}

    @property
    def _log(self) -> telemetry.Log:
        # Made when it is used: `run` configures the log after the function was declared.
        return telemetry.Log(function=self.name)

    def on_http(self, path: str = "/") -> Callable[[H], H]:
        """Call it for each request to `path`; see `function.http` for the answers."""

        def decorate(handler: H) -> H:
            if path in self._routes:
                raise ConfigError(f"function {self.name!r} has two handlers for {path}")
            self._routes[path] = check(handler)
            return handler

        return decorate

    def on_topic(
        self,
        topic: str,
        *,
        start: Literal["now", "earliest"] = "earliest",
        in_flight: int = 32,
        retries: int = 20,
    ) -> Callable[[H], H]:
        """Call it for each event of a topic (`metrics`, or `shop/orders` for an

        EventSource's event); see `function.topic` for what raising means. `start`
        counts for the function's very first start only.
        """
        full = topics.parse(topic, self.namespace)
        group = group_name(self.namespace, self.name, full)

        def decorate(handler: H) -> H:
            if any(one.topic == full for one in self.subscriptions):
                raise ConfigError(f"function {self.name!r} has two handlers for topic {topic!r}")
            dead = topics.dead(self.namespace, f"function/{self.name}")
            self.subscriptions.append(
                Subscription(full, group, check(handler), start, in_flight, retries, dead)
            )
            return handler

        return decorate

    def application(self, bus: Bus | None = None) -> Starlette:
        """The ASGI application of its HTTP handlers; for tests and other servers."""

        def context(event: Event) -> Context:
            return Context(self.name, self.namespace, event, bus=bus)

        async def healthz(_: Request) -> Response:
            return Response("ok\n")

        routes = [
            Route(path, endpoint(handler, context, self._log), methods=["POST", "PUT", "GET"])
            for path, handler in self._routes.items()
        ]
        return Starlette(routes=[*routes, Route("/healthz", healthz)])

    async def consume(self, bus: Bus, stop: asyncio.Event) -> None:
        """Serve its topics on that bus until `stop`."""

        def context(event: Event, attempt: int) -> Context:
            return Context(self.name, self.namespace, event, attempt, bus)

        owner, clock = f"{self.namespace}/{self.name}", SystemClock()
        async with asyncio.TaskGroup() as group:
            for one in self.subscriptions:
                live = self._live(topics.show(one.topic))
                work = consume(
                    bus, one, context, self._log, owner=owner, clock=clock, stop=stop, started=live
                )
                group.create_task(work)

    def _live(self, address: str) -> Callable[[], None]:
        return lambda: self._log.info("started", address=address)

    def run(self, *, port: int = 8080, host: str = "127.0.0.1") -> None:
        """Serve until Ctrl-C or SIGTERM; PORT and HOST in the environment go first.

        Ends the process with exit code 1 and a sentence where it cannot start.
        """
        telemetry.configure_logging(os.environ.get("OFEVENTS_LOG_LEVEL", "info"))
        try:
            process.run(self._run(os.environ.get("HOST", host), port))
        except ConfigError as error:
            sys.exit(f"{self.name}: {error}")

    async def _run(self, host: str, port: int) -> None:
        stop = process.Stop()
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(stop.listening())
            bus: Bus | None = None
            if found := bus_of_environment():
                bus = await stack.enter_async_context(open_bus(found, clock=SystemClock()))
            elif self.subscriptions:
                raise ConfigError(
                    "it listens on a topic and has no bus: set OFEVENTS_BUS_URL, or "
                    "start it with `ofevents run --with`"
                )
            group = await stack.enter_async_context(asyncio.TaskGroup())
            if self._routes or "PORT" in os.environ:
                group.create_task(self._serve(host, port, bus, stop.event))
            if bus is not None and self.subscriptions:
                group.create_task(self.consume(bus, stop.event))

    async def _serve(self, host: str, port: int, bus: Bus | None, stop: asyncio.Event) -> None:
        bound = server.bind(host, _port(port), what=f"function {self.name!r}")
        await server.serve(
            self.application(bus),
            bound,
            stop=stop,
            started=lambda url: self._log.info("started", address=url),
        )


def _port(default: int) -> int:
    text = os.environ.get("PORT", str(default))
    if not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"PORT must be a number from 0 to 65535, not {text!r}")
    return int(text)


def bus_of_environment() -> ResolvedBus | None:
    """The bus that OFEVENTS_BUS or OFEVENTS_BUS_URL names; None without either.

    Raises:
        ConfigError: OFEVENTS_BUS is not the JSON of a ResolvedBus.
    """
    if text := os.environ.get("OFEVENTS_BUS"):
        try:
            return ResolvedBus.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(
                "OFEVENTS_BUS is not the JSON of a resolved bus such as "
                '{"driver": "jetstream", "options": {"url": "nats://127.0.0.1:4222"}}: '
                f"{error.errors()[0]['msg']}"
            ) from None
    if url := os.environ.get("OFEVENTS_BUS_URL"):
        return ResolvedBus(driver="jetstream", options={"url": url})
    return None
