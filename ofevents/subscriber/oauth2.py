"""OAuth 2 client credentials (RFC 6749 section 4.4): a token fetched, kept, renewed.

Called by `http.py` before a call, and once more when the answer is 401. However
many calls wait, one request for a token is under way at a time.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote_plus

import orjson
from pyreqwest.exceptions import PyreqwestError

from ofevents.api.resolved import HttpTarget
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Misconfigured, TooLarge, Unavailable
from ofevents.subscriber import answer, client

_TIMEOUT: Final = 10.0
_DEFAULT_LIFE: Final = 300.0
"""Seconds, where the server does not say how long its token is valid."""
_EARLY: Final = 30.0
"""Seconds before its end at which a token is renewed, but not before half its life."""
_NEEDED: Final = ("token_url", "client_id", "client_secret")


class OAuth2:
    """The current token of one target; used as `async with`."""

    def __init__(self, target: HttpTarget, options: dict[str, str], clock: Clock) -> None:
        """Options are token_url, client_id, client_secret and, if wanted, scope.

        Raises:
            ConfigError: one of them is missing, or the address cannot be read.
        """
        for name in _NEEDED:
            if not options.get(name):
                raise ConfigError("is missing", path=f"sink.auth.oauth2.{name}")
        self._url = client.parse(options["token_url"], "sink.auth.oauth2.token_url")
        self._shown = f"the token server {client.shown(options['token_url'])}"
        self._user = quote_plus(options["client_id"])
        self._secret = quote_plus(options["client_secret"])
        self._form = {"grant_type": "client_credentials"}
        if options.get("scope"):
            self._form["scope"] = options["scope"]
        self._client = client.build(target, timeout=_TIMEOUT, connections=1, headers={})
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def token(self, refused: str = "") -> str:
        """A token that is valid now, and is not the one just refused.

        Raises:
            Unavailable: the token server cannot be reached, or fails.
            Misconfigured: it refuses us, or answers something else than a token.
        """
        if self._fresh(refused):
            return self._token
        async with self._lock:
            if not self._fresh(refused):
                await self._fetch()
            return self._token

    def _fresh(self, refused: str) -> bool:
        known = self._token not in ("", refused)
        return known and self._clock.monotonic() < self._renew_at

    async def _fetch(self) -> None:
        request = (
            self._client.post(self._url)
            .basic_auth(self._user, self._secret)
            .header("accept", "application/json")
            .form(self._form)
        )
        try:
            async with request.build_streamed() as response:
                reply = await answer.keep(response, self._shown)
        except (PyreqwestError, TooLarge) as error:
            raise Unavailable(f"no token from {self._shown}: {error}") from error
        if reply.status >= 500 or reply.status == 429:
            delay = answer.retry_after(reply.headers.get("retry-after"), self._clock)
            raise Unavailable(
                f"{self._shown} answered {reply.status}", status=reply.status, delay=delay
            )
        if reply.status != 200:
            raise Misconfigured(
                f"{self._shown} refuses the client with {reply.status}"
                f"{_reason(reply.body)}: check sink.auth.oauth2",
                status=reply.status,
            )
        self._keep(reply.body)

    def _keep(self, body: bytes) -> None:
        parsed = _object(body)
        token, life = parsed.get("access_token"), parsed.get("expires_in", _DEFAULT_LIFE)
        if not isinstance(token, str) or not token.isprintable() or not token.isascii():
            raise Misconfigured(f"{self._shown} answered 200 without an access_token")
        try:
            life = float(life)
        except (TypeError, ValueError):
            life = _DEFAULT_LIFE
        self._token = token
        self._renew_at = self._clock.monotonic() + max(life - _EARLY, life / 2)


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _reason(body: bytes) -> str:
    """The `error` code of RFC 6749 section 5.2, such as invalid_client."""
    code = _object(body).get("error")
    return f" ({code[:64]})" if isinstance(code, str) and code.isprintable() else ""
