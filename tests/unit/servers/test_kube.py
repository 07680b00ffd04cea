"""What of the test cluster is decided without one: images, what is missing, where it may run."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
import tomllib
import uuid
from pathlib import Path

import psutil
import pytest
import yaml

from tests.servers import ServerMissing, kube_config, kube_namespace
from tests.servers.kube_build import BUILDS, KUBENODE
from tests.servers.kube_image import export, pack
from tests.servers.kube_namespace import refusal


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def test_an_image_is_its_program(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    first = pack(program, "localhost/pause:1", tmp_path / "first.tar")
    second = pack(program, "localhost/pause:1", tmp_path / "second.tar")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        read = {each.name: _content(archive, each) for each in archive}
    (manifest,) = json.loads(read["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    config = json.loads(read[manifest["Config"]])
    assert config["config"] == {"Entrypoint": ["/pause"], "User": "65532"}
    layer = read[manifest["Layers"][0]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        (entry,) = files.getmembers()
        assert (entry.name, entry.mode) == ("pause", 0o755)


def test_without_buildah_nothing_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ServerMissing, match="apt-get install buildah"):
        export("localhost/ofevents:1", tmp_path / "none.tar")


def test_a_build_that_is_not_there_names_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFEVENTS_SERVERS", str(tmp_path))
    with pytest.raises(ServerMissing, match=r"no kubernetes kubenode .*: make servers"):
        KUBENODE.find("kubenode")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ServerMissing, match="install Go"):
        KUBENODE.get()


def test_what_is_built_already_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFEVENTS_SERVERS", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)  # no Go: a build would fail
    for build in BUILDS:
        for command in (*build.commands, *(build.files or ())[:1]):
            path = build.folder / command
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert [build.get() for build in BUILDS] == [build.folder for build in BUILDS]


def test_outside_its_namespace_the_node_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerMissing, match="make cluster"):
        kube_namespace.require()
    monkeypatch.setenv("OFEVENTS_NAMESPACE_REFUSED", "no unshare")
    with pytest.raises(ServerMissing, match="no unshare"):
        kube_namespace.require()


@pytest.mark.skipif(bool(refusal()), reason=f"no namespaces here: {refusal()}")
def test_nothing_outlives_the_command() -> None:
    seconds = f"1000.{uuid.uuid4().int % 10**9:09}"  # by which it is told from any other sleep
    script = f"setsid sleep {seconds} & echo started; wait"
    command = [sys.executable, "-m", kube_namespace.__name__, "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        deadline, found = time.monotonic() + 20, []
        while not found and time.monotonic() < deadline:  # it may not have begun to be one yet
            found = [each for each in psutil.process_iter() if seconds in _line(each)]
        (sleeper,) = found
        process.kill()
    gone, _ = psutil.wait_procs([sleeper], timeout=20)
    assert gone == [sleeper]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_the_files_are_what_their_readers_parse(tmp_path: Path) -> None:
    kubelet = yaml.safe_load(kube_config.kubelet(tmp_path))
    runtime = tomllib.loads(kube_config.containerd(tmp_path))
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{runtime['grpc']['address']}"
    (plugin,) = json.loads(kube_config.cni(tmp_path))["plugins"]
    proxy = yaml.safe_load(kube_config.proxy(tmp_path / "config"))
    assert plugin["ipam"]["ranges"] == [[{"subnet": proxy["clusterCIDR"]}]]
    assert kubelet["clusterDNS"] == ["10.0.0.10"]
    service, slice_ = kube_config.on_node("kube-system", "kube-dns", 53, clusterIP="10.0.0.10")
    assert [each["protocol"] for each in service["spec"]["ports"]] == ["TCP", "UDP"]
    assert service["spec"]["ports"] == slice_["ports"]
