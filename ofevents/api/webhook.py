"""The `webhook` source: HTTP requests become events.

`WebhookSpec` is what the adapter is given; the entry in an EventSource has the
fields of every source beside it (`eventsource.py`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator

from ofevents.api.meta import SECRET_HINT, Basic, Model, SecretText
from ofevents.api.rules import ruled
from ofevents.api.scalars import PATH_PATTERN, ByteSize, Duration, Port

Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]


class Hmac(Model):
    """A signature over the body, as GitHub, Stripe and others send it."""

    secret: SecretText = Field(repr=False, description=f"The shared secret. {SECRET_HINT}")
    header: str = Field(
        default="X-Hub-Signature-256", description="Header that carries the signature."
    )
    algorithm: Literal["sha256", "sha1", "sha512"] = Field(
        default="sha256", description="Hash function."
    )
    prefix: str = Field(
        default="sha256=",
        description="Text before the signature in the header. For a list of `key=value` pairs, "
        "as Stripe sends it, the key and `=`.",
    )
    encoding: Literal["hex", "base64"] = Field(
        default="hex", description="How the signature is written."
    )
    timestamp: str | None = Field(
        default=None,
        description="Key of the timestamp in the same header, such as `t` for Stripe; the signed "
        "text is then `<timestamp>.<body>`.",
    )
    tolerance: Duration = Field(
        default=300.0,
        description="How old or new a signed timestamp may be; read with `timestamp`.",
    )


class WebhookAuth(Model):
    """Who may call; every form that is given must be satisfied."""

    bearer: SecretText | None = Field(
        default=None, repr=False, description=f"Token of `Authorization: Bearer`. {SECRET_HINT}"
    )
    basic: Basic | None = Field(default=None, description="User name and password of HTTP basic.")
    hmac: Hmac | None = Field(default=None, description="A signature over the body.")

    @model_validator(mode="after")
    def _one_header(self) -> WebhookAuth:
        if self.bearer is not None and self.basic is not None:
            raise ValueError("bearer and basic use the same header: give one of them")
        if self.bearer is None and self.basic is None and self.hmac is None:
            raise ValueError("expected one of bearer, basic, hmac; leave `auth` out for none")
        return self


class ServerTls(Model):
    """Certificate of a server."""

    cert: SecretText = Field(repr=False, description=f"Certificate chain, PEM. {SECRET_HINT}")
    key: SecretText = Field(repr=False, description=f"Private key, PEM. {SECRET_HINT}")


_HOST: Any = Field(
    default=None,
    pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    description="Host name of the requests. Default: any.",
)


class Ingress(Model):
    """An Ingress for the webhook's path, of the same name as its Service."""

    class_name: str | None = Field(
        default=None, description="Ingress class. Default: the cluster's."
    )
    host: str | None = _HOST
    tls_secret: str | None = Field(
        default=None,
        description="Secret of type kubernetes.io/tls in this namespace, for HTTPS from outside.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of the Ingress, for its controller."
    )


class HttpRoute(Model):
    """An HTTPRoute of the Gateway API for the webhook's path, of the same name as its Service."""

    gateway: str = Field(
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="The Gateway that takes the requests: namespace/name, or the name of one in "
        "this namespace. It must let routes of this namespace in.",
    )
    host: str | None = _HOST
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of the HTTPRoute."
    )


_EXPOSE: Final = "expected ingress, httpRoute or both; leave `expose` out for none"


class Expose(Model):
    """How a webhook is reached from outside the cluster; read on the cluster only."""

    model_config = ruled(("has(self.ingress) || has(self.httpRoute)", _EXPOSE))

    ingress: Ingress | None = Field(default=None, description="By an Ingress.")
    http_route: HttpRoute | None = Field(default=None, description="By a Gateway.")

    @model_validator(mode="after")
    def _some(self) -> Expose:
        if self.ingress is None and self.http_route is None:
            raise ValueError(_EXPOSE)
        return self


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class WebhookSpec(Model):
    """Listens for HTTP requests; answers when the event is stored."""

    host: str = Field(
        default="127.0.0.1",
        # No default in the cluster's schema: what the API server fills in looks like a wish.
        json_schema_extra=_without_default,
        description="Address to listen on: this machine only unless told otherwise. On the "
        "cluster a worker listens on all addresses of its Pod.",
    )
    port: Port = Field(default=8080, description="Port to listen on; 0 takes a free one.")
    path: str = Field(
        default="",
        pattern=PATH_PATTERN,
        description="Path of the request. Default: /<EventSource>/<event>.",
    )
    methods: list[Method] = Field(
        default=["POST"], min_length=1, description="HTTP methods that are taken."
    )
    max_body_bytes: ByteSize = Field(
        default=1048576, description="Largest body; a larger one gets 413."
    )
    auth: WebhookAuth | None = Field(default=None, description="Who may call. Default: everybody.")
    tls: ServerTls | None = Field(default=None, description="Serve HTTPS with this certificate.")
    id_header: str | None = Field(
        default=None,
        description="Header whose value becomes the event's id, such as X-GitHub-Delivery, so "
        "that a repeated request is the same event. Default: a new id for each request.",
    )
    type_header: str | None = Field(
        default=None,
        description="Header whose value ends the event's type, such as X-GitHub-Event.",
    )
    reply_status: int = Field(
        default=202, ge=200, le=299, description="Status of the answer once the event is stored."
    )
    timeout: Duration = Field(
        default=30.0,
        description="How long a request waits for the function's reply; for the bus 5 s at most.",
    )
