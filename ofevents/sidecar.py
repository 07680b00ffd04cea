"""The gRPC channel to a Dapr sidecar, as the bus and the adapters connect alike.

Used by the dapr bus (`bus.dapr_link`) and the dapr source and sink. Who watches the
channel, and what its errors mean, is theirs. Importing it needs the extra `dapr`.
"""

from __future__ import annotations

import os
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import dapr_pb2_grpc

_MESSAGE: Final = 64 * 1024 * 1024
LIMITS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE),
    ("grpc.max_send_message_length", _MESSAGE),
)
"""Options of a channel or a server: the bytes of a message that we take. The sidecar has a
limit of its own."""
_CHANNEL: Final = (
    *LIMITS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A channel of its own: gRPC would share one, and its backoff, with others.
    ("grpc.use_local_subchannel_pool", 1),
)
READY: Final = grpc.ChannelConnectivity.READY
ANSWER: Final = 5.0
"""Seconds that an answer about the sidecar itself may take."""


def connect(address: str) -> tuple[Any, Any]:
    """A channel to `host:port`, which connects when it is first used, and Dapr's stub on it."""
    channel = grpc.aio.insecure_channel(address, options=_CHANNEL)
    generated: Any = dapr_pb2_grpc  # without types
    return channel, generated.DaprStub(channel)


def token() -> tuple[tuple[str, str], ...]:
    """The gRPC metadata of each call: Dapr's API token, where the environment has one."""
    found = os.environ.get("DAPR_API_TOKEN")
    return (("dapr-api-token", found),) if found else ()
