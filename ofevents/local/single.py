"""One worker in a process of its own: `ofevents source` and `ofevents trigger`.

This is what runs in a pod. It needs a resolved spec and nothing else: no
resources, no look-ups, no permissions.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import ValidationError

from ofevents import source, trigger
from ofevents.api import secretref
from ofevents.api.resolved import VERSION, ResolvedSource, ResolvedTrigger
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local import admin
from ofevents.process import Stop
from ofevents.telemetry import Log

Spec = ResolvedSource | ResolvedTrigger
Kind = Literal["EventSource", "Trigger"]

_VERB = {"EventSource": "source", "Trigger": "trigger"}
_MODEL: dict[str, type[ResolvedSource] | type[ResolvedTrigger]] = {
    "EventSource": ResolvedSource,
    "Trigger": ResolvedTrigger,
}


SECRETS: Final = "/etc/ofevents/secrets"
"""Where a Pod has the Secrets that its spec names, a folder for each, a file for each key."""


def read(path: Path, kind: Kind, secrets: Path | None = None) -> Spec:
    """The resolved spec in that file, YAML or JSON, with the Secrets that it names in place.

    Args:
        secrets: the folder of `NAME/KEY` files; None: OFEVENTS_SECRETS, else `SECRETS`.

    Raises:
        ConfigError: it cannot be read, is another kind or a resource that is not
            resolved, or was written for another version of ofevents.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"the spec cannot be read: {reason}", where=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the spec is neither YAML nor JSON: {error}", where=str(path)) from error
    folder = secrets or Path(os.environ.get("OFEVENTS_SECRETS") or SECRETS)
    return _check(secretref.replace(documents, partial(_secret, folder)), path, kind)


def _secret(folder: Path, name: str, key: str) -> str:
    if {name, key} & {".", ".."}:
        raise ConfigError(f"{name}/{key} is no key of a Secret")
    try:
        return (folder / name / key).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"key {key} of Secret {name} cannot be read: {reason}", where=str(folder / name / key)
        ) from None


def _check(documents: list[Any], path: Path, kind: Kind) -> Spec:
    where = str(path)
    if any(isinstance(one, dict) and "apiVersion" in one for one in documents):
        raise ConfigError(
            "this is a resource, not a resolved spec: `ofevents run -f` runs resources, "
            f"`ofevents resolve -f {path} --write DIR` writes the specs of their workers",
            where=where,
        )
    if len(documents) != 1 or not isinstance(documents[0], dict):
        several = f", found {len(documents)} documents" if len(documents) > 1 else ""
        raise ConfigError(
            f"expected the resolved spec of one worker{several}; `ofevents resolve --write DIR` "
            "writes a file for each",
            where=where,
        )
    parsed = documents[0]
    found = parsed.get("kind")
    if found != kind:
        other = _VERB.get(str(found))
        hint = f"; run it with `ofevents {other} -f {path}`" if other else ""
        raise ConfigError(f"expected kind {kind}, found {found!r}{hint}", where=where)
    if parsed.get("version", VERSION) != VERSION:
        raise ConfigError(
            f"the spec has version {parsed['version']!r}, this ofevents reads version {VERSION}: "
            "use the same release of ofevents on both sides",
            where=where,
        )
    try:
        return _MODEL[kind].model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{first['msg']} (was it written by another release of ofevents?)",
            path=field,
            where=where,
        ) from None


async def run(spec: Spec, *, host: str, port: int | None, remove: bool = False) -> None:
    """Run that worker until SIGINT or SIGTERM, and drain it; `port` None has no probes.

    With `remove`, a Trigger takes away what it has on its bus, instead of working.

    Raises:
        ConfigError: the worker, or the probes' port, cannot be used.
    """
    clock = SystemClock()
    health = Health(clock)
    stop = Stop()
    log = Log(resource=f"{spec.namespace}/{spec.name}")
    with stop.listening():
        async with asyncio.TaskGroup() as group:
            serving: asyncio.Task[None] | None = None
            if port is not None:
                # Probes answer until the worker has drained: they have a stop of their own.
                serving = group.create_task(
                    admin.serve(
                        health,
                        host=host,
                        port=port,
                        stop=asyncio.Event(),
                        started=lambda url: log.info("started", address=url, what="probes"),
                    )
                )
            if isinstance(spec, ResolvedSource):
                await source.run(spec, health=health, clock=clock, stop=stop.event)
            elif remove:
                await trigger.run_removal(spec, health=health, clock=clock, stop=stop.event)
            else:
                await trigger.run(spec, health=health, clock=clock, stop=stop.event)
            if serving is not None:
                serving.cancel()
