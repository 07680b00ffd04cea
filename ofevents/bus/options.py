"""The options of the JetStream driver, as `ResolvedBus.options` carries them.

Checked when the driver is built, so that `validate` and `run` can say what is
wrong before anything connects.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any, Final, Literal

from nats.aio.client import RawCredentials
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ofevents.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Tls(BaseModel):
    """PEM texts. An empty `tls: {}` trusts the system's authorities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """For the client; raises ConfigError for texts that are no PEM."""
        try:
            context = ssl.create_default_context(cadata=self.ca)
            if self.cert and self.key:
                # The ssl module loads a client certificate from files only.
                with tempfile.TemporaryDirectory() as folder:
                    paths = [os.path.join(folder, name) for name in ("cert", "key")]
                    for path, text in zip(paths, (self.cert, self.key), strict=True):
                        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
                        with os.fdopen(descriptor, "w") as file:
                            file.write(text)
                    context.load_cert_chain(*paths)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"the bus's TLS material is not usable: ca, cert and key are PEM texts ({error})",
                path="jetstream.tls",
            ) from error
        return context


class Credentials(BaseModel):
    """At most one way to prove who we are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str | None = None
    user: str | None = None
    password: str | None = None
    creds: str | None = None
    """Text of a `.creds` file: a user JWT and its seed."""
    nkey: str | None = None
    """An nkey's seed."""

    def arguments(self) -> dict[str, Any]:
        """For `Client.connect`."""
        given: dict[str, Any] = {
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "user_credentials": RawCredentials(self.creds) if self.creds else None,
            "nkeys_seed_str": self.nkey,
        }
        return {name: value for name, value in given.items() if value is not None}


class JetStreamOptions(BaseModel):
    """Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """One URL, or several separated by commas. Whoever starts an embedded server
    (`EmbeddedServer`) puts its URL here."""
    embedded: bool = False
    credentials: Credentials = Credentials()
    tls: Tls | None = None
    stream: str = "ofevents"
    """Prefix of our streams and subjects: two buses on one server differ in it."""
    replicas: int = Field(1, ge=1, le=5)
    storage: Literal["file", "memory"] = "file"
    max_age: float = Field(7 * 86400.0, ge=1)
    max_bytes: int | None = Field(None, ge=64 * 1024)
    """Of events. User topics may take half as much beside them, inboxes as much, dead
    letters a quarter, the store what is left up to three times as much in all. None: as
    much as the server grants, from 10 GiB down; its own limit is below the disk's free
    space."""
    duplicate_window: float = Field(120.0, ge=0.1)
    ack_wait: float = Field(30.0, ge=1)
    publish_deadline: float = Field(5.0, gt=0)
    monitoring: str | None = None
    sync: Literal["default", "always"] | None = None
    """Of an embedded server; a server of one's own has a setting for it."""

    @field_validator("stream")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError("letters, digits, '-' and '_', at most 64 of them")
        return value

    @property
    def servers(self) -> list[str]:
        return [url.strip() for url in (self.url or "").split(",") if url.strip()]


def read_options(options: Mapping[str, Any]) -> JetStreamOptions:
    """Check them.

    Raises:
        ConfigError: one line per wrong option.
    """
    try:
        read = JetStreamOptions.model_validate(dict(options))
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError("; ".join(lines), path="jetstream") from None
    if not read.servers:
        raise ConfigError(
            "the bus has no url: only `ofevents run` starts a nats-server of its own",
            path="jetstream.url",
        )
    if read.sync is not None and not read.embedded:
        raise ConfigError(
            "sync is a setting of the server that ofevents runs itself; with a url, set "
            "`sync_interval` in that server's own configuration",
            path="jetstream.sync",
        )
    return read
