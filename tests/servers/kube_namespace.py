"""Run a command where the test cluster can run: cut off from the machine and its network.

    python -m tests.servers.kube_namespace pytest tests/cluster -m cluster

`make cluster` does that. The command gets a network namespace without a way out, whose
`node0` is the node's address; mounts of its own, so that nothing stays mounted; and
process ids of its own, so that no shim and no Pod outlives it, however it ends. Servers
that tests start are in there too: loopback, Pods and Service names all are reached from
them as from each other. Where the kernel refuses, the command runs nevertheless, and
`require` tells the tests why.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from tests.servers import ServerMissing

ADDRESS: Final = "10.99.0.1"
"""Of the node, of whatever listens there for the Pods, and of the DNS server."""
DNS: Final = "10.0.0.10"
DOMAIN: Final = "cluster.local"
_BRIDGE: Final = "node0"
_PRIVATE: Final = ("/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet")
"""What CNI, kubelet and containerd write outside their own folders: nobody else sees it."""
_REFUSED: Final = "OFEVENTS_NAMESPACE_REFUSED"
_UNSHARE: Final = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def require() -> None:
    """The calling process is in such a namespace.

    Raises:
        ServerMissing: it is not; the text says why.
    """
    if refused := os.environ.get(_REFUSED):
        raise ServerMissing(f"no Kubernetes node here: {refused}")
    if _BRIDGE not in [name for _, name in socket.if_nameindex()]:
        raise ServerMissing("the Kubernetes node has a network namespace of its own: make cluster")


def search_path() -> str:
    """A resolv.conf as the Pods of the namespace `default` have it."""
    names = " ".join(f"{prefix}{DOMAIN}" for prefix in ("default.svc.", "svc.", ""))
    return f"search {names}\nnameserver {DNS}\noptions ndots:5\n"


def _run(*command: str) -> None:
    """Run a set-up step.

    Raises:
        OSError: it failed; the text is its own.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def refusal() -> str:
    """Why there are no such namespaces here; empty when there are."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root"
    for command in ("unshare", "ip", "iptables", "sysctl", "mount"):
        if shutil.which(command) is None:
            return f"no {command}"
    tried = subprocess.run(
        ["unshare", *_UNSHARE, "true"], capture_output=True, text=True, timeout=60
    )
    return tried.stderr.strip() if tried.returncode else ""


def _prepare() -> None:
    """Set up mounts and network; the default route makes Service addresses routable, no more."""
    _run("mount", "--make-rshared", "/")
    for folder in _PRIVATE:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", folder)
    names = Path("/run/resolv.conf")
    names.write_text(search_path())
    target = Path("/etc/resolv.conf")
    if target.is_symlink():  # into /run, as systemd has it
        target = Path(os.path.realpath(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _run("mount", "--bind", str(names), str(target))
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", _BRIDGE, "type", "bridge")
    _run("ip", "addr", "add", f"{ADDRESS}/24", "dev", _BRIDGE)
    _run("ip", "link", "set", _BRIDGE, "up")
    _run("ip", "route", "add", "default", "dev", _BRIDGE)
    _run("sysctl", "-w", "net.ipv4.ip_forward=1")
    _run("iptables", "-t", "nat", "-L", "-n")
    # kube-proxy's rules: each match and target is a kernel feature of its own
    check = ("iptables", "-t", "nat", "-A", "OUTPUT", "-m", "comment", "--comment", "check")
    rules = (
        (*check, "-m", "statistic", "--mode", "random", "--probability", "0.5", "-j", "RETURN"),
        (*check, "-m", "addrtype", "--dst-type", "LOCAL", "-j", "MARK", "--set-xmark", "0x4000"),
    )
    for rule in rules:
        _run(*rule)
        _run(*("-D" if word == "-A" else word for word in rule))


def _inside(command: list[str]) -> int:
    """Be the first process of the namespace: prepare, run the command, reap orphans.

    Its end is the end of every process in the namespace: the kernel sees to that.
    """
    environment = {**os.environ, "OFEVENTS_HOST": ADDRESS}
    try:
        _prepare()
    except (OSError, subprocess.TimeoutExpired) as error:
        environment[_REFUSED] = str(error)
    child = subprocess.Popen(command, env=environment)

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal has told the child itself
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return abs(child.returncode)


def main(command: list[str]) -> int:
    """Run the command, where it cannot be inside with the reason in its environment."""
    if command[:1] == ["--inside"]:
        return _inside(command[1:])
    if refused := refusal():
        return subprocess.run(command, env={**os.environ, _REFUSED: refused}).returncode
    here = [sys.executable, "-m", __spec__.name, "--inside"]
    os.execvp("unshare", ["unshare", *_UNSHARE, *here, *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
