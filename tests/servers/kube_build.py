"""Kubernetes and what a node of it needs, built from source into the cache; see go_build.py.

tests/servers/kube_api.py and tests/servers/kube_node.py find them. Every module is a folder
under tests/servers/kube.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.servers.go_build import Build, sources

_SOURCE: Final = Path(__file__).parent / "kube"
KUBERNETES: Final = "1.37.2"


def _version_flags() -> str:
    """What the components say of themselves; kubelet and kubectl compare these."""
    major, minor, _ = KUBERNETES.split(".")
    names = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    package = "k8s.io/component-base/version"
    return " ".join(f"-X {package}.{name}={value}" for name, value in names.items())


_CONTAINERD: Final = "github.com/containerd/containerd/v2/cmd"
_KEDA: Final = "github.com/kedacore/keda/v2"

KUBENODE: Final = Build(
    name="kubernetes",
    version=KUBERNETES,
    module=_SOURCE,
    commands={"kubenode": "./kubenode"},
    takes="12 minutes",
    link=_version_flags(),
)
IMAGES: Final = Build(
    name="images",
    version=sources(_SOURCE / "images"),
    module=_SOURCE / "images",
    commands={"pause": "./pause", "probe": "./probe"},
    takes="5 s",
)
CONTAINERD: Final = Build(
    name="containerd",
    version="2.4.2",
    module=_SOURCE / "containerd",
    commands={
        name: f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    takes="2 minutes",
    tags="no_btrfs,no_devmapper,no_zfs",
)
COREDNS: Final = Build(
    name="coredns",
    version="1.14.7",
    module=_SOURCE / "coredns",
    commands={"coredns": "github.com/coredns/coredns"},
    takes="3 minutes",
)
KEDA: Final = Build(
    name="keda",
    version="2.21.0",
    module=_SOURCE / "keda",
    commands={"operator": f"{_KEDA}/cmd/operator", "adapter": f"{_KEDA}/cmd/adapter"},
    takes="12 minutes",
    files=("crds", _KEDA, "config/crd/bases"),
)
BUILDS: Final = (KUBENODE, IMAGES, CONTAINERD, COREDNS, KEDA)
