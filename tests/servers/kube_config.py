"""The files that the processes of the test cluster's node are started with, as pure text.

tests/servers/kube_node.py writes them. What is unusual in them is there because the node
is a process on a machine it does not own: cgroups of version 1 and no limits of its own
on them, no AppArmor, no image registry, no disk that it may call full.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.servers.kube_namespace import ADDRESS, DNS, DOMAIN

PAUSE = "localhost/pause:1"
NODE = "node1"
PODS = "10.77.0.0/16"


def kubelet(folder: Path) -> str:
    """The kubelet's configuration; its containerd listens in the same folder."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{folder / 'ctd.sock'}",
            "clusterDNS": [DNS],
            "clusterDomain": DOMAIN,
            "resolvConf": str(folder / "resolv.conf"),
            "podLogsDir": str(folder / "pods"),
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "featureGates": {"KubeletInUserNamespace": True},
            "localStorageCapacityIsolation": False,
            "evictionHard": {
                "nodefs.available": "0%",
                "imagefs.available": "0%",
                "memory.available": "10Mi",
            },
            "imageGCHighThresholdPercent": 100,  # an image that is collected cannot be had again
            "maxPods": 250,
        }
    )


def containerd(folder: Path) -> str:
    """containerd's configuration."""
    return f"""\
version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/ctd.sock"
[plugins.'io.containerd.internal.v1.opt']
  path = "{folder}/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def cni(folder: Path) -> str:
    """The Pods' network. Each has a link of its own to the node, which routes between
    them: on a shared bridge the answer of a Service's Pod would not pass the node again.
    """
    ipam: dict[str, Any] = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "ipam"),
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]})


def proxy(kubeconfig: Path) -> str:
    """kube-proxy's configuration; 0 leaves the machine's connection tracking alone."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "mode": "iptables",
            "iptables": {"minSyncPeriod": "100ms"},
            "clusterCIDR": PODS,
            "hostnameOverride": NODE,
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
        }
    )


def coredns(kubeconfig: Path) -> str:
    """CoreDNS's configuration: the cluster's names and no others."""
    return f"""\
. {{
  bind {ADDRESS}
  errors
  ready 127.0.0.1:8181
  kubernetes {DOMAIN} {{
    kubeconfig {kubeconfig}
  }}
}}
"""


def on_node(namespace: str, name: str, port: int, **service: Any) -> list[dict[str, Any]]:
    """A Service for a process that runs on the node itself and listens on that port."""
    meta = {"name": name, "namespace": namespace}
    protocols = ("TCP", "UDP") if port == 53 else ("TCP",)
    ports = [{"name": each.lower(), "port": port, "protocol": each} for each in protocols]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"ports": ports, **service},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [ADDRESS]}],
        },
    ]
