"""The options of the dapr driver, as `ResolvedBus.options` carries them.

Checked when the driver is built. `pubsub` and `state` are components as the user
wrote them; the rest says where the sidecar is. Without it Dapr's own environment
variables count, which is how a pod's sidecar is found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofevents.api.scalars import parse_duration
from ofevents.bus import dapr_kinds as kinds
from ofevents.errors import ConfigError
from ofevents.ports import BusFeatures

# Read when gRPC is first imported, which is after this module: a program that is started
# (--with) needs no handlers of gRPC for its fork, and they complain.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

PORT: Final = 50001
"""Where a sidecar listens unless told otherwise."""


class Setting(BaseModel):
    """A metadata entry, secrets in place."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    value: Any = None

    @property
    def text(self) -> str:
        """As Dapr reads it."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return "" if self.value is None else str(self.value)


class Component(BaseModel):
    """A Dapr component."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    version: str = "v1"
    metadata: list[Setting] = []

    @property
    def settings(self) -> dict[str, str]:
        return {one.name: one.text for one in self.metadata}


class DaprOptions(BaseModel):
    """Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pubsub: Component
    state: Component | None = None
    sidecar: str | None = None
    """`host:port` of the sidecar's gRPC API."""
    app_port: int | None = Field(None, ge=1, le=65535)
    """Where this process listens for the sidecar's calls (its --app-port); 0 or absent
    for a process that only publishes, or consumes on streams."""
    app_host: str = "127.0.0.1"
    resources: str | None = None
    """A folder of component files that the sidecar watches (HotReload) and to which the
    driver adds what its consumers need; who starts the sidecar has written the bus's own
    (`dapr_components.manifests`). None where somebody else writes all of them, such as a
    controller."""
    scope: str = ""
    """Whose components these are, where each worker has its own, as on a cluster."""
    prefix: str = "ofevents."
    """Of the topics' names: two buses on one broker differ in it."""
    lanes: int | None = Field(None, ge=1, le=64)
    """Components of one consumer group in one process; None: what suits the type."""
    ack_wait: float = Field(30.0, ge=1)
    """The component's own setting counts before it (`read_options`): who holds a message
    for longer than the broker waits gets it twice."""
    publish_deadline: float = Field(5.0, gt=0)
    linger: float = Field(0.002, ge=0, le=0.1)
    """How long a publish waits for others to go with."""
    batch: int = Field(500, ge=1, le=5000)
    max_bytes: int | None = None
    """Accepted, and without effect: the broker has a limit of its own."""

    @property
    def kind(self) -> kinds.Kind:
        return kinds.kind_of(self.pubsub.type)

    @property
    def features(self) -> BusFeatures:
        return kinds.features(self.pubsub.type, store=self.state is not None)

    @property
    def bulk(self) -> bool:
        """Whether messages come in batches to the app's port."""
        return self.kind.way == "bulk" and bool(self.app_port)

    @property
    def components(self) -> int:
        """How many components one consumer group has in one process."""
        return self.lanes or self.kind.lanes


def read_options(options: Mapping[str, Any]) -> DaprOptions:
    """Check them, and fill in what the environment says.

    Raises:
        ConfigError: one line per wrong option, or a setting that loses events.
    """
    given = dict(options)
    if not given.get("sidecar"):
        given["sidecar"] = _address()
    if given.get("app_port") is None and os.environ.get("APP_PORT", "").isdecimal():
        given["app_port"] = int(os.environ["APP_PORT"])
    try:
        read = DaprOptions.model_validate(given)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError("; ".join(lines), path="dapr") from None
    wrong = [text for _, text in kinds.mistakes(read.pubsub.type, read.pubsub.settings)]
    if wrong:
        raise ConfigError("; ".join(wrong), path="dapr.pubsub.metadata")
    return _waiting(read)


def _waiting(read: DaprOptions) -> DaprOptions:
    """With the ack wait that the user has given the component, if any."""
    wanted, unit = read.kind.wait
    for name, text in read.pubsub.settings.items():
        if name.lower() != wanted.lower():
            continue
        try:
            wait = float(text) * unit if text.isdecimal() else parse_duration(text)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}", path="dapr.pubsub.metadata") from None
        if wait < 1:
            why = f"{name} must be 1s at least, not {text}: what takes longer is handed out again"
            raise ConfigError(why, path="dapr.pubsub.metadata")
        return read.model_copy(update={"ack_wait": wait})
    return read


def _address() -> str:
    endpoint = os.environ.get("DAPR_GRPC_ENDPOINT", "")
    if endpoint:
        return endpoint.rpartition("://")[2]
    return f"127.0.0.1:{os.environ.get('DAPR_GRPC_PORT') or PORT}"
