"""The sidecars of `ofevents run`: a daprd beside each worker that needs one.

A worker needs one for the component that its `dapr` source reads, for the output
bindings that it calls, and for the apps that it invokes; unless the spec says where a
sidecar is, or, where no component is written, Dapr's environment does. It lives as long
as its worker, on ports of its own: a sidecar calls one app, and reads for one.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from ofevents.api import dapr
from ofevents.api.platform import DaprComponent
from ofevents.api.resolved import (
    HttpTarget,
    ResolvedSource,
    ResolvedSubscriber,
    SinkTarget,
    Target,
)
from ofevents.clock import Clock
from ofevents.local.daprd import Daprd, find_binary
from ofevents.local.workers import Key, Spec, key
from ofevents.ports import SourceIdentity

_DAPR: Final = "dapr"
_END_WITHIN: Final = 1.0
"""Seconds. What it reads for has ended already: there is nothing to wait for but its commits."""
_HTTP: Final = ("DAPR_HTTP_PORT", "DAPR_HTTP_ENDPOINT")
"""Where Dapr tells its apps how to invoke others."""


class Sidecars:
    """See the module; `daprd` None looks for the program when a worker needs it."""

    def __init__(self, directory: Path, clock: Clock, *, daprd: Path | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._daprd = daprd
        self._running: dict[Key, Daprd] = {}

    @asynccontextmanager
    async def beside(self, spec: Spec) -> AsyncIterator[Spec]:
        """The worker's spec with the address of its sidecar, which runs meanwhile.

        Raises:
            ConfigError: it needs one, and there is no daprd; says how to get it.
        """
        need = needs(spec)
        if not need:
            yield spec
            return
        named = re.sub("[^A-Za-z0-9_-]", "_", "-".join(key(spec)))
        folder = self._directory / f"dapr-{named}"
        daprd = Daprd(
            folder,
            find_binary(self._daprd, user="a dapr source or sink"),
            app_id=folder.name.lower(),
            app=need.reads,
            end_within=_END_WITHIN,
            clock=self._clock,
        )
        async with daprd.running(need.manifests):
            self._running[key(spec)] = daprd
            try:
                yield placed(spec, grpc=daprd.grpc, http=daprd.http, app_port=daprd.app_port)
            finally:
                self._running.pop(key(spec), None)

    def kill(self) -> None:
        """End them at once; for a second Ctrl-C."""
        for daprd in self._running.values():
            daprd.kill()

    def why(self, kind: str, resource: str) -> str:
        """Why that worker's sidecar ended last, "" if it has none or it never did."""
        daprd = self._running.get((kind, resource))
        return daprd.why if daprd else ""


@dataclass(slots=True)
class Need:
    """What a worker's sidecar must have: nothing of it is no need."""

    manifests: list[dapr.Manifest] = field(default_factory=list)
    reads: bool = False
    invokes: bool = False

    def __bool__(self) -> bool:
        return bool(self.manifests) or self.invokes


def needs(spec: Spec) -> Need:
    """What is not there without a sidecar of ours."""
    need = Need()
    if isinstance(spec, ResolvedSource) and _is_ours(spec.source, spec.spec):
        who = SourceIdentity(spec.namespace, spec.name, spec.source, spec.entry)
        name = dapr.name_of(spec.namespace, spec.name, spec.entry)
        component = DaprComponent.model_validate(spec.spec["component"])
        need.manifests.append(dapr.input_component(name, component, who.group))
        need.reads = True
    for target in _targets(spec):
        if isinstance(target, SinkTarget) and _is_ours(target.sink, target.spec):
            component = DaprComponent.model_validate(target.spec["component"])
            need.manifests.append(dapr.output_component(target.spec["componentName"], component))
        elif isinstance(target, HttpTarget) and target.uri.startswith(dapr.SCHEME):
            need.invokes |= not any(os.environ.get(name) for name in _HTTP)
    return need


def placed(spec: Spec, *, grpc: str, http: str, app_port: int) -> Spec:
    """The spec with the addresses of its sidecar wherever it needs one."""

    def place(target: Target | None) -> Target | None:
        if isinstance(target, SinkTarget) and _is_ours(target.sink, target.spec):
            return target.model_copy(update={"spec": {**target.spec, "sidecar": grpc}})
        if isinstance(target, HttpTarget) and target.uri.startswith(dapr.SCHEME):
            url = dapr.invoke_url(target.uri, f"http://{http}")
            return target.model_copy(update={"uri": url})
        return target

    if not isinstance(spec, ResolvedSource):
        subscribers = tuple(_with_targets(one, place) for one in spec.subscribers)
        return spec.model_copy(update={"subscribers": subscribers})
    fields = spec.spec
    if _is_ours(spec.source, fields):
        fields = {**fields, "sidecar": grpc, "appPort": app_port}
    return _with_targets(spec.model_copy(update={"spec": fields}), place)


def _is_ours(kind: str, fields: dict[str, Any]) -> bool:
    return kind == _DAPR and bool(fields.get("component")) and not fields.get("sidecar")


def _targets(spec: Spec) -> Iterator[Target | None]:
    for one in [spec] if isinstance(spec, ResolvedSource) else spec.subscribers:
        yield one.target
        yield one.dead_letter


Owner = TypeVar("Owner", ResolvedSource, ResolvedSubscriber)


def _with_targets(one: Owner, place: Callable[[Target | None], Target | None]) -> Owner:
    given = {"target": place(one.target), "dead_letter": place(one.dead_letter)}
    return one.model_copy(update=given)
