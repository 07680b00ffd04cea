"""Who may call a webhook: bearer, basic and HMAC, compared in constant time (promise 10).

Called by the `webhook` source, before the body is read (`admit`) and after it
(`verify`). A refusal says which header was expected, never what was compared.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from ofevents.api.meta import reveal
from ofevents.api.webhook import Hmac, WebhookAuth
from ofevents.clock import Clock

RawHeaders = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class Refused(Exception):
    """The caller is not let in; `challenge` is the WWW-Authenticate header, if any."""

    def __init__(self, message: str, challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class Guard:
    """Checks every form of a spec's `auth`; without one everybody may call."""

    def __init__(self, auth: WebhookAuth | None, clock: Clock) -> None:
        self._bearer = self._basic = b""
        self._signature: Signature | None = None
        if auth is None:
            return
        if auth.bearer is not None:
            self._bearer = (reveal(auth.bearer) or "").encode()
        if auth.basic is not None:
            pair = f"{reveal(auth.basic.username)}:{reveal(auth.basic.password)}"
            self._basic = pair.encode()
        if auth.hmac is not None:
            self._signature = Signature(auth.hmac, clock)

    def admit(self, headers: RawHeaders) -> None:
        """Check `Authorization`; raises Refused."""
        if not self._bearer and not self._basic:
            return
        form, wanted = ("Bearer", self._bearer) if self._bearer else ("Basic", self._basic)
        challenge = form if self._bearer else 'Basic realm="ofevents", charset="UTF-8"'
        given = _one(headers, "authorization")
        if given is None:
            raise Refused(f"the header Authorization is missing; expected {form}", challenge)
        scheme, _, rest = given.partition(b" ")
        found = rest.strip()
        if scheme.lower() != form.lower().encode():
            raise Refused(f"the header Authorization must be {form}", challenge)
        if self._basic:
            try:
                found = base64.b64decode(found, validate=True)
            except binascii.Error:
                found = b""
        if not hmac.compare_digest(found, wanted):
            what = "token" if self._bearer else "user name or password"
            raise Refused(f"the {what} in the header Authorization is not the right one", challenge)

    def verify(self, headers: RawHeaders, body: bytes) -> None:
        """Check the signature over the body; raises Refused."""
        if self._signature is not None:
            self._signature.verify(headers, body)


class Signature:
    """An HMAC in a header: alone behind a prefix, or in a list of `key=value` pairs.

    GitHub: `X-Hub-Signature-256: sha256=<hex>`. Stripe: `Stripe-Signature:
    t=<timestamp>,v1=<hex>,v1=<hex>` over `<timestamp>.<body>`, each v1 for a secret.
    """

    def __init__(self, spec: Hmac, clock: Clock) -> None:
        self._spec = spec
        self._key = (reveal(spec.secret) or "").encode()
        self._clock = clock

    def verify(self, headers: RawHeaders, body: bytes) -> None:
        spec = self._spec
        given = _one(headers, spec.header.lower())
        if given is None:
            raise Refused(f"the header {spec.header} with the signature is missing")
        parts = given.split(b",") if spec.timestamp is not None else [given]
        prefix = spec.prefix.encode()
        candidates = [
            part.strip()[len(prefix) :] for part in parts if part.strip().startswith(prefix)
        ]
        if not candidates:
            raise Refused(f"the header {spec.header} has no signature that begins {spec.prefix!r}")
        if spec.timestamp is not None:
            body = self._stamp(parts, spec.timestamp) + b"." + body
        wanted = self._sign(body)
        if not any(hmac.compare_digest(self._as_written(one), wanted) for one in candidates):
            raise Refused(f"the signature in the header {spec.header} does not fit the body")

    def _stamp(self, parts: list[bytes], key: str) -> bytes:
        prefix = key.encode() + b"="
        found = [part.strip()[len(prefix) :] for part in parts if part.strip().startswith(prefix)]
        if len(found) != 1 or not found[0].isdigit() or len(found[0]) > 12:
            raise Refused(f"the header {self._spec.header} has no timestamp {key}=<seconds>")
        if abs(self._clock.now() - int(found[0])) > self._spec.tolerance:
            raise Refused(
                f"the timestamp in the header {self._spec.header} is more than "
                f"{self._spec.tolerance:g} s away from now"
            )
        return found[0]

    def _sign(self, text: bytes) -> bytes:
        made = hmac.new(self._key, text, getattr(hashlib, self._spec.algorithm)).digest()
        return made.hex().encode() if self._spec.encoding == "hex" else base64.b64encode(made)

    def _as_written(self, given: bytes) -> bytes:
        return given.lower() if self._spec.encoding == "hex" else given


def _one(headers: RawHeaders, name: str) -> bytes | None:
    """The header's value. Given twice, nobody can say which one counts: refused."""
    found = [value for key, value in headers if key == name.encode()]
    if len(found) > 1:
        raise Refused(f"the header {name} is given twice")
    return found[0] if found else None
