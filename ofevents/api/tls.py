"""From the `Tls` of a resource to what a connection of the ssl module is given.

Called by adapters when they are built, so that a certificate that is none is found by
`ofevents validate` too.
"""

from __future__ import annotations

import os
import ssl
import tempfile

from ofevents.api.meta import Tls, reveal
from ofevents.errors import ConfigError


def client_context(tls: Tls, path: str) -> ssl.SSLContext:
    """Trusts what `tls` names, or the system; `path` of the field is for errors.

    Raises:
        ConfigError: a text is no PEM, or of cert and key one is missing.
    """
    ca, cert, key = reveal(tls.ca), reveal(tls.cert), reveal(tls.key)
    if bool(cert) != bool(key):
        raise ConfigError("mutual TLS needs both cert and key", path=path)
    try:
        context = ssl.create_default_context(cadata=ca or None)
        if tls.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if cert and key:
            # The ssl module loads a client certificate from files only.
            with tempfile.TemporaryDirectory() as folder:
                names = [os.path.join(folder, name) for name in ("cert", "key")]
                for name, text in zip(names, (cert, key), strict=True):
                    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
                    with os.fdopen(descriptor, "w") as file:
                        file.write(text)
                context.load_cert_chain(*names)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(f"ca, cert and key are PEM texts: {error}", path=path) from error
    return context
