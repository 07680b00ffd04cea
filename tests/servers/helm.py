"""The real helm, built with Go into the cache: `make servers`.

    helm.run("template", "name", folder)      # what it prints

It renders the chart and installs it; it is no server, but is had and missed like one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.servers.go_build import Build
from tests.servers.kube_build import KUBERNETES

VERSION: Final = "3.22.0"
_MODULE: Final = "helm.sh/helm/v3"
_RUN_WITHIN: Final = 60.0


def _flags() -> str:
    """As helm's own Makefile does it: without these it takes every cluster for an ancient one."""
    major, minor, _ = KUBERNETES.split(".")
    said = {
        "internal/version.version": f"v{VERSION}",
        "pkg/chartutil.k8sVersionMajor": major,
        "pkg/chartutil.k8sVersionMinor": minor,
        "pkg/lint/rules.k8sVersionMajor": major,
        "pkg/lint/rules.k8sVersionMinor": minor,
    }
    return " ".join(f"-X {_MODULE}/{name}={value}" for name, value in said.items())


HELM: Final = Build(
    name="helm",
    version=VERSION,
    module=Path(__file__).parent / "kube" / "helm",
    commands={"helm": f"{_MODULE}/cmd/helm"},
    takes="3 minutes",
    link=_flags(),
)


def run(*arguments: str | Path, home: Path) -> str:
    """What helm prints; `home` is where it keeps its own files.

    Raises:
        ServerMissing: there is no helm.
        RuntimeError: it fails; the text is its own.
    """
    done = subprocess.run(
        [HELM.find("helm"), *map(str, arguments)],
        env={
            **os.environ,
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
        },
        capture_output=True,
        text=True,
        timeout=_RUN_WITHIN,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
