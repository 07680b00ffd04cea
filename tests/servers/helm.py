"""The real helm, built with Go into the cache: `make servers`.

    helm.run("template", "name", folder)      # what it prints

It renders the chart and installs it; it is no server, but is had and missed like one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.servers import ServerMissing, cache_dir, kube_build

VERSION: Final = "3.22.0"
_PACKAGE: Final = "helm.sh/helm/v3/cmd/helm"
_BUILD_WITHIN: Final = 900.0
_RUN_WITHIN: Final = 60.0


def binary() -> Path:
    """Where helm is in the cache.

    Raises:
        ServerMissing: it has not been built.
    """
    if not _target().exists():
        raise ServerMissing(f"no helm {VERSION}: make servers (it is built with Go)")
    return _target()


def build() -> Path:
    """helm in the cache; built when it is not there, which takes some minutes.

    Raises:
        ServerMissing: Go is not installed, or could not build it.
    """
    target = _target()
    if target.exists():
        return target
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not go:
        raise ServerMissing("helm is built with Go: https://go.dev/dl")
    major, minor, _ = kube_build.KUBERNETES.split(".")
    module = _PACKAGE.removesuffix("/cmd/helm")
    # As helm's own Makefile does it: without these it takes every cluster for an ancient one.
    said = {
        f"{module}/internal/version.version": f"v{VERSION}",
        f"{module}/pkg/chartutil.k8sVersionMajor": major,
        f"{module}/pkg/chartutil.k8sVersionMinor": minor,
        f"{module}/pkg/lint/rules.k8sVersionMajor": major,
        f"{module}/pkg/lint/rules.k8sVersionMinor": minor,
    }
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in said.items())])
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        done = subprocess.run(
            [go, "install", "-trimpath", f"-ldflags={flags}", f"{_PACKAGE}@v{VERSION}"],
            cwd=folder,
            env={**os.environ, "GOBIN": folder, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=_BUILD_WITHIN,
        )
        if done.returncode:
            raise ServerMissing(f"Go could not build helm: {done.stderr[-600:]}")
        os.rename(Path(folder) / "helm", target)
    return target


def _target() -> Path:
    return cache_dir() / f"helm-{VERSION}"


def run(*arguments: str | Path, home: Path) -> str:
    """What helm prints; `home` is where it keeps its own files.

    Raises:
        ServerMissing: there is no helm.
        RuntimeError: it fails; the text is its own.
    """
    done = subprocess.run(
        [binary(), *map(str, arguments)],
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
