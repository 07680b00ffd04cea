"""Images as archives that the node imports; used by kube_node.py and the tests of the cluster.

    pack(IMAGES.find("pause"), "localhost/pause:1", folder / "pause.tar")
    export("localhost/ofevents:0.1.0", folder / "ofevents.tar")

`pack` makes an image that holds one static program and nothing else: no image builder and
no base image is needed, and the same program gives the same bytes. `export` takes one
that buildah has built on this machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.servers import ServerMissing, find

_ANYBODY = 65532
"""The user of the images, where a Pod says nothing: not root."""


def pack(program: Path, name: str, archive: Path) -> Path:
    """Write the archive of an image whose entrypoint is that program; returns `archive`."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": str(_ANYBODY)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": (json.dumps(config).encode(), 0o644),
        "layer.tar": (layer, 0o644),
        "manifest.json": (json.dumps(manifest).encode(), 0o644),
    }
    archive.write_bytes(_tar(files))
    return archive


def export(name: str, archive: Path) -> Path:
    """Write an image of buildah's as an archive; returns `archive`.

    Raises:
        ServerMissing: there is no buildah, or it has no such image.
    """
    if find("buildah") is None:
        raise ServerMissing("apt-get install buildah")
    done = subprocess.run(
        ["buildah", "push", "--quiet", name, f"oci-archive:{archive}:{name}"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise ServerMissing(f"no image {name}: {done.stderr.strip()[-600:]}")
    return archive


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive of contents and modes, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
