"""The `dapr` sink: any output binding of Dapr. (An app that is invoked is HTTP.)

Dapr's answer to InvokeBinding is the confirmation. A binding has no place for attributes
beside the data that would be the same for every component, so an event is structured
where `binary` is asked for; `raw` sends the data alone. Each call has the user's
metadata, an `Idempotency-Key` (the HTTP binding makes a header of it, Kafka's a record
header) and, of an event with a key, `partitionKey`.

What an error means is told by Dapr's code and, of the HTTP binding, by the status that
it met; for most components all that Dapr tells is a sentence, which can heal.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self

import grpc
from dapr.proto.runtime.v1 import binding_pb2

from ofevents.api.sink import DaprSink as Spec
from ofevents.clock import Clock
from ofevents.errors import (
    ConfigError,
    Misconfigured,
    OfeventsError,
    Rejected,
    TooLarge,
    Unavailable,
)
from ofevents.event import Event, digest, to_http
from ofevents.ports import Format
from ofevents_adapters.dapr_config import address
from ofevents_adapters.dapr_sidecar import Sidecar

_OURS: Final = frozenset(
    {
        *(grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED),
        *(grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND),
    }
)
"""We call it wrongly: a person must see to it."""
_OURS_SAID: Final = ("couldn't find output binding", "does not support operation")
_LARGE_SAID: Final = ("too large", "larger than max")
_STATUS: Final = "metadata.statuscode"
_REJECTED: Final = frozenset({400, 409, 410, 413, 415, 422})
_MISCONFIGURED: Final = frozenset({401, 403, 404, 405, *range(300, 400)})
"""As for any HTTP call (promise 6)."""


class DaprSink:
    """Calls one operation of one output binding; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        if spec.component_name is None:
            raise ConfigError("the component has no name", path="sink.dapr.componentName")
        if spec.component is not None and not spec.component.type.startswith("bindings."):
            raise ConfigError(
                f"{spec.component.type} is no output binding; expected bindings.<name>",
                path="sink.dapr.component.type",
            )
        self._component = spec.component_name
        self._operation = spec.operation or ""
        self._metadata = spec.metadata
        self._format: Format = "raw" if format == "raw" else "structured"
        self._timeout = timeout
        self._sidecar = Sidecar(address(spec.sidecar), clock)
        self.address = f"Dapr binding {self._component} at daprd {self._sidecar.address}"

    async def __aenter__(self) -> Self:
        await self._sidecar.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._sidecar.__aexit__(kind, error, trace)

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`."""
        _, body = to_http(event, self._format)
        metadata = {"Idempotency-Key": digest(self._component, event.source, event.id)}
        if key is not None:
            metadata["partitionKey"] = key
        request = binding_pb2.InvokeBindingRequest(
            name=self._component,
            data=body,
            metadata={**metadata, **self._metadata},
            operation=self._operation,
        )
        try:
            await self._sidecar.stub.InvokeBinding(
                request, timeout=self._timeout, metadata=self._sidecar.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Any) -> OfeventsError:
        code, said = error.code(), str(error.details() or "")
        text = f"{self.address}: {code.name}: {said[:300]}"
        met = dict(error.initial_metadata() or ()).get(_STATUS, "")
        if met.isdecimal():
            return meaning_of_status(int(met), f"{self.address} met status {met}: {said[:200]}")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED or any(
            each in said.lower() for each in _LARGE_SAID
        ):
            return TooLarge(text)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return Rejected(text)
        if code in _OURS or any(each in said for each in _OURS_SAID):
            return Misconfigured(text)
        return Unavailable(text)


def meaning_of_status(status: int, text: str) -> OfeventsError:
    """What an HTTP status that is not 2xx stands for, as of a function's answer."""
    if status in _REJECTED:
        return Rejected(text, status=status)
    if status in _MISCONFIGURED:
        return Misconfigured(text, status=status)
    return Unavailable(text, status=status)
