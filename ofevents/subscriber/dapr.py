"""An app that is invoked through Dapr is a function over HTTP, at the sidecar's address.

Called by `open_http`. The sidecar passes status, headers and body on as they are, so
that answers, retries and replies are those of any function; its own errors are 5xx, and
403 where a policy of Dapr forbids the call.
"""

from __future__ import annotations

import os
from typing import Final

from ofevents.api.dapr import SCHEME, invoke_url
from ofevents.api.resolved import HttpTarget

PORT: Final = 3500
"""Where a sidecar's HTTP API is unless told otherwise."""


def through_sidecar(target: HttpTarget) -> HttpTarget:
    """The target of a `dapr://app/method` address; any other one as it is.

    The sidecar is where Dapr tells its apps: DAPR_HTTP_ENDPOINT, or DAPR_HTTP_PORT at
    DAPR_HOST, which is this host unless the sidecar is elsewhere.
    """
    if not target.uri.startswith(SCHEME):
        return target
    sidecar = os.environ.get("DAPR_HTTP_ENDPOINT", "").rstrip("/")
    if not sidecar:
        host = os.environ.get("DAPR_HOST") or "127.0.0.1"
        sidecar = f"http://{host}:{os.environ.get('DAPR_HTTP_PORT') or PORT}"
    headers = dict(target.headers)
    if token := os.environ.get("DAPR_API_TOKEN"):
        headers["dapr-api-token"] = token
    uri = invoke_url(target.uri, sidecar)
    return target.model_copy(update={"uri": uri, "headers": headers})
