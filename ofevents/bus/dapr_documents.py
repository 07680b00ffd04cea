"""Documents of a Dapr state component, read and written with their etags.

The store (`dapr_store`) and its index (`dapr_index`) are made of them. What each
component does with a wrong or missing etag is told apart here, so that above there is
one rule: `Mismatch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import state_pb2

from ofevents.bus.dapr_link import Link, refused
from ofevents.bus.topics import escape
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected

_WITHIN: Final = 5.0
_FIRST_WRITE: Final = common_pb2.StateOptions(
    concurrency=common_pb2.StateOptions.CONCURRENCY_FIRST_WRITE,
    consistency=common_pb2.StateOptions.CONSISTENCY_STRONG,
)
_ETAG: Final = "ETAG"
_TTL: Final = "TTL"
_ETAG_REFUSED: Final = (grpc.StatusCode.ABORTED, grpc.StatusCode.INVALID_ARGUMENT)
"""Not the current one, or none of this component's."""


class Mismatch(Exception):
    """The document has another etag, or exists already."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a state component holds under a key; `etag` "" is nothing."""

    data: bytes
    etag: str


class Documents:
    """Documents of the state component, with their etags: the store's and the index's."""

    def __init__(self, link: Link, component: str, clock: Clock) -> None:
        self._link = link
        self._component = component
        self.clock = clock

    def _can(self, what: str) -> bool:
        found = self._link.capabilities.get(self._component)
        if found is None:
            raise Disconnected(f"the sidecar has no component {self._component!r}")
        return what in found

    async def read(self, key: str) -> Document | None:
        """Raises Disconnected when the sidecar or its store does not answer."""
        request = state_pb2.GetStateRequest(
            store_name=self._component,
            key=key,
            consistency=common_pb2.StateOptions.CONSISTENCY_STRONG,
        )
        found = await self._ask("GetState", request)
        return Document(found.data, found.etag) if found.etag else None

    async def read_all(self, keys: Sequence[str]) -> dict[str, Document]:
        """Those of the keys that exist."""
        request = state_pb2.GetBulkStateRequest(
            store_name=self._component, keys=keys, parallelism=16
        )
        found = await self._ask("GetBulkState", request)
        for one in found.items:
            if one.error:
                raise Disconnected(f"the store does not answer: {one.error}")
        return {one.key: Document(one.data, one.etag) for one in found.items if one.etag}

    async def write(self, key: str, data: bytes, etag: str, ttl: int | None = None) -> None:
        """Write where the document is at that etag; "" only creates.

        Raises:
            Mismatch: it is not.
            Disconnected: not known to be written.
        """
        if not self._can(_ETAG):
            raise ConfigError(
                "the state component has no etags, so nothing can be changed safely: take "
                "another one, such as state.redis or state.postgresql",
                path="dapr.state",
            )
        item = common_pb2.StateItem(
            key=key,
            value=data,
            etag=common_pb2.Etag(value=etag) if etag else None,
            options=_FIRST_WRITE,
            metadata={"ttlInSeconds": str(ttl or -1)} if self._can(_TTL) else None,
        )
        request = state_pb2.SaveStateRequest(store_name=self._component, states=[item])
        try:
            await self._ask("SaveState", request)
        except Disconnected as error:
            if etag and getattr(error.__cause__, "code", lambda: None)() in _ETAG_REFUSED:
                raise Mismatch from error
            # Some components say nothing more of a create that came too late.
            if not etag and await self.read(key) is not None:
                raise Mismatch from None
            raise

    async def _ask(self, call: str, request: Any) -> Any:
        await self._link.ready(_WITHIN)
        try:
            method = getattr(self._link.stub, call)
            return await method(request, timeout=_WITHIN, metadata=self._link.metadata)
        except grpc.aio.AioRpcError as error:
            raise refused(error, "the store does not answer") from error


def wire_key(key: str) -> str:
    """A store's key as Dapr takes it: any text, but no "||"."""
    return "s/" + "/".join(map(escape, key.split("/")))
