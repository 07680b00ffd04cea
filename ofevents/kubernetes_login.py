"""How to log in to the cluster: the Pod's service account, or a kubeconfig.

Inside a Pod the mounted token is read again as it is renewed. Used by `cluster.client`
and by the `kubernetes` source. Importing it needs the library of either's extra.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Final

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
)

from ofevents.errors import ConfigError

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a Pod finds its token and the API server's certificate."""


async def login(
    kubeconfig: Path | None = None,
    context: str | None = None,
    *,
    options: str = "KUBECONFIG",
    path: str = "",
) -> Any:
    """The Configuration of kubernetes-asyncio: host, and `auth_settings()` before each call.

    `context` is one of the kubeconfig's. Without both: the service account when there is
    one, else KUBECONFIG or ~/.kube/config. For the error, `options` tells where the user
    may name a kubeconfig, and `path` where the login stands in a document.

    Raises:
        ConfigError: there is neither, or no such file.
    """
    configuration: Any = Configuration()
    try:
        inside = os.environ.get("KUBERNETES_SERVICE_HOST") and (ACCOUNT / "token").exists()
        if kubeconfig is None and context is None and inside:
            load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration,
                token_filename=str(ACCOUNT / "token"),
                cert_filename=str(ACCOUNT / "ca.crt"),
            )
        else:
            given = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
            files = str(kubeconfig or given)
            _some_file(files)
            await load_kube_config(
                config_file=files,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError) as error:
        raise ConfigError(
            "no cluster to log in to: expected a Pod's service account, or a kubeconfig "
            f"({options}): {error}",
            path=path,
        ) from error
    return configuration


def _some_file(files: str) -> None:
    """One of the files, which KUBECONFIG separates as PATH does: as for kubectl, others may be
    missing. Without any the library reads an empty one, and misses its first key.

    Raises:
        FileNotFoundError: none is there.
    """
    if not any(Path(one).expanduser().exists() for one in files.split(os.pathsep) if one):
        raise FileNotFoundError(f"no such file: {files}")


def trust(configuration: Any) -> ssl.SSLContext:
    """What the kubeconfig or the Pod says of TLS."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
