"""Builds the HTTP client of one target, and names the target without its secrets.

Called by `http.py` and `oauth2.py`; everything that can be wrong with an address,
a certificate or a header is found here, before any event is at stake.

The client follows no redirects, takes no proxy from the environment (only
`sink.proxy` counts, so a workload behaves the same wherever it runs) and asks
for no compression: answers are small, and a limit counts real bytes.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder

from ofevents.api.resolved import HttpTarget
from ofevents.errors import ConfigError

_CONNECT_TIMEOUT: Final = 10.0
_IDLE: Final = 60.0
"""Seconds an unused connection is kept; one that the server closed is replaced in time."""


def shown(uri: str) -> str:
    """The address for people: no credentials, no query, no fragment."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def parse(uri: str, path: str, schemes: tuple[str, ...] = ("http", "https")) -> Url:
    """The address, checked.

    Raises:
        ConfigError: it is not absolute, or of another scheme.
    """
    try:
        url = Url(uri)
    except ValueError as error:
        raise ConfigError(
            f"no address such as http://host:8080/path: {error}", path=path
        ) from error
    if url.scheme not in schemes or not url.host_str:
        raise ConfigError(
            f"{shown(uri)!r} must begin with one of {', '.join(s + '://' for s in schemes)}",
            path=path,
        )
    return url


def build(
    target: HttpTarget, *, timeout: float, connections: int, headers: Mapping[str, str]
) -> Client:
    """A client for `target` that keeps at most `connections` connections open.

    Args:
        timeout: seconds for a whole call, from waiting for a free connection to the end
            of the answer.
        headers: sent with every request that does not set them itself.

    Raises:
        ConfigError: a certificate, key, header or proxy that cannot be used.
    """
    builder = (
        ClientBuilder()
        .user_agent("ofevents")
        .follow_redirects(False)
        .referer(False)
        .no_proxy()
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .timeout(timedelta(seconds=timeout))
        .connect_timeout(timedelta(seconds=min(timeout, _CONNECT_TIMEOUT)))
        .pool_idle_timeout(timedelta(seconds=_IDLE))
        .pool_max_idle_per_host(connections)
        .max_connections(connections)
    )
    for name, value in headers.items():
        try:
            builder = builder.default_headers({name: value})
        except ValueError:
            # The library's text would quote the value, which may be a secret.
            raise ConfigError(
                "no valid HTTP header (a name of letters, digits and '-', a value of one line)",
                path=f"sink.headers.{name}",
            ) from None
    builder = _trust(builder, target)
    if target.proxy is not None:
        parse(target.proxy, "sink.proxy", ("http", "https", "socks5", "socks5h"))
        builder = builder.proxy(ProxyBuilder.all(target.proxy))
    try:
        return builder.build()
    except ValueError as error:
        raise ConfigError(f"the HTTP client cannot be made: {error}", path="sink") from error


def _trust(builder: ClientBuilder, target: HttpTarget) -> ClientBuilder:
    """Certificates: `ca` is trusted besides the system's, `cert` and `key` identify us."""
    if target.ca is not None:
        try:
            ssl.create_default_context(cadata=target.ca)
        except (ssl.SSLError, ValueError):
            raise ConfigError("no certificates in PEM form", path="sink.tls.ca") from None
        builder = builder.add_root_certificate_pem(target.ca.encode())
    if (target.cert is None) != (target.key is None):
        raise ConfigError("cert and key belong together: both or none", path="sink.tls")
    if target.cert is not None and target.key is not None:
        try:
            builder = builder.identity_pem(f"{target.cert}\n{target.key}\n".encode())
        except ValueError:
            raise ConfigError(
                "no certificate and private key in PEM form", path="sink.tls.cert"
            ) from None
    return builder
