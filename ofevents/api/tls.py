"""TLS of a client: from the `Tls` of a spec to the context that a connection takes.

Called by adapters when they are built, so that a certificate that cannot be read is
found before anything connects, by `ofevents validate` too.
"""

from __future__ import annotations

import os
import ssl
import tempfile

from ofevents.api.meta import Tls, reveal
from ofevents.errors import ConfigError


def client_context(tls: Tls, path: str) -> ssl.SSLContext:
    """The context; without a CA it trusts the system's.

    Args:
        path: of the Tls in the document, for errors.

    Raises:
        ConfigError: a text is no PEM, or cert and key do not come together.
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
