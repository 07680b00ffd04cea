"""Our own image and installation, for the tests of the cluster.

    archive = IMAGE.get()              # `make servers ARGS=--cluster` builds it
    await node.load_image(IMAGE.find())
    await install(node)                # `ofevents install`, as a user does it

The image is deploy/Dockerfile's, built by deploy/build-image.sh on a base that Debian's
debootstrap makes: no registry of images is asked. Its name ends with a hash of all that
goes into it, so that an image of other sources is never taken for this one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.servers import ServerMissing, alone, cache_dir, find
from tests.servers.kube_image import export
from tests.servers.kube_node import KubeNode

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = ("pyproject.toml", "constraints.txt", "README.md", "adapters", "ofevents",
                   "deploy/Dockerfile", "deploy/build-image.sh")  # fmt: skip
_SUITE: Final = "bookworm"
_BASE: Final = f"localhost/ofevents-base:{_SUITE}"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_BUILD_SECONDS: Final = 1200
_KEPT: Final = 6
"""Images of other sources that stay in the cache."""


@dataclass(frozen=True, slots=True)
class OwnImage:
    """The image of this tree."""

    @property
    def name(self) -> str:
        return f"localhost/ofevents:{_sources()}"

    @property
    def _archive(self) -> Path:
        return cache_dir() / "ofevents-images" / f"{self.name.rpartition(':')[2]}.tar"

    def find(self) -> Path:
        """Its archive.

        Raises:
            ServerMissing: it has not been built.
        """
        if not self._archive.exists():
            raise ServerMissing(f"no image {self.name}: make servers ARGS=--cluster builds it")
        os.utime(self._archive)  # that of a test which runs is not the one to be forgotten
        return self._archive

    def get(self) -> Path:
        """Its archive; built when it is not there, which takes two minutes.

        Raises:
            ServerMissing: buildah or debootstrap is missing, or fails.
        """
        if not self._archive.exists():
            with alone(self._archive.parent):
                if not self._archive.exists():  # another process may have been quicker
                    self._build()
        return self._archive

    def _build(self) -> None:
        for command in ("buildah", "debootstrap"):
            if find(command) is None:
                raise ServerMissing(f"apt-get install {command}")
        if not _known(_BASE):
            _make_base()
        _run("deploy/build-image.sh", "--build-arg", f"BASE={_BASE}", image=self.name)
        fresh = self._archive.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        export(self.name, fresh)
        fresh.rename(self._archive)
        _run("buildah", "rmi", "--force", self.name)
        _forget(self._archive.parent)


IMAGE: Final = OwnImage()


@cache
def _sources() -> str:
    """A hash of what goes into the image, as it is when it is first asked for."""
    seen = hashlib.sha256()
    for source in _SOURCES:
        path = _ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                seen.update(str(file.relative_to(_ROOT)).encode())
                seen.update(file.read_bytes())
    return seen.hexdigest()[:12]


def _known(name: str) -> bool:
    done = subprocess.run(["buildah", "inspect", "--type", "image", name], capture_output=True)
    return done.returncode == 0


def _make_base() -> None:
    """An image of Debian with a Python, and nothing of ours."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root))
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        container = _run("buildah", "from", "scratch").strip()
        try:
            _run("buildah", "add", "--quiet", container, str(root), "/")
            _run("buildah", "commit", "--quiet", container, _BASE)
        finally:
            _run("buildah", "rm", container)


def _forget(folder: Path) -> None:
    """Remove the archives that were used longest ago."""
    for old in sorted(folder.glob("*.tar"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
        old.unlink()


def _run(*command: str, image: str = "") -> str:
    """Run a step of the build in the root of the tree; what it printed.

    Raises:
        ServerMissing: it failed; the text is its own.
    """
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, **({"IMAGE": image} if image else {})},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
    )
    if done.returncode:
        raise ServerMissing(f"{command[0]} failed: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


async def ofevents(node: KubeNode, verb: str, *arguments: str) -> str:
    """Run a verb that speaks to a cluster; what it printed.

    Raises:
        RuntimeError: its exit code is not 0; the text is its own.
    """
    own = str(Path(sys.executable).parent / "ofevents")
    return await node.output(own, verb, "--kubeconfig", str(node.config), *arguments)


async def install(node: KubeNode, *arguments: str) -> str:
    """Run `ofevents install` with the tree's image, where `arguments` say no other."""
    return await ofevents(node, "install", "--image", IMAGE.name, *arguments)
