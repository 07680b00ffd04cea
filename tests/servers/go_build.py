"""Programs that the tests need and nobody ships: built with Go into the cache, each once.

    DAPRD = Build("daprd", VERSION, module=folder, commands={"daprd": "."}, takes="3 minutes")
    DAPRD.get()                # `make servers` (tests/servers/fetch.py) builds it
    DAPRD.find("daprd")        # the tests only find it

A module has its go.mod and go.sum in the tree, so that every build is of the same sources.
Builds run at the lowest priority: they are long, and cores are shared.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import ServerMissing, alone, cache_dir

_BUILD_SECONDS: Final = 2 * 3600


@dataclass(frozen=True, slots=True)
class Build:
    """The commands that are built from one Go module.

    Attributes:
        name: what it is called in the cache, where `version` is appended.
        module: its folder.
        commands: binary -> Go package.
        takes: the time of a first build on two free cores, for people who wait.
        tags, link: for Go's `-tags` and its linker.
        files: a folder of manifests that is copied too: its name in the cache, the Go
            module that it is in, its path there.
    """

    name: str
    version: str
    module: Path
    commands: Mapping[str, str]
    takes: str
    tags: str = ""
    link: str = ""
    files: tuple[str, str, str] | None = None

    @property
    def folder(self) -> Path:
        return cache_dir() / f"{self.name}-{self.version}"

    def find(self, command: str) -> Path:
        """A command that is built already.

        Raises:
            ServerMissing: it is not.
        """
        path = self.folder / command
        if not path.exists():
            raise ServerMissing(
                f"no {self.name} {command} {self.version}: make servers ARGS=--cluster builds it "
                "(needs Go)"
            )
        return path

    def get(self) -> Path:
        """The folder of the commands; those that are not there are built.

        Of several processes one builds, and the others wait for it.

        Raises:
            ServerMissing: there is no Go, or a build fails.
        """
        if self._missing():
            with alone(self.folder):
                for name in self._missing():
                    if name in self.commands:
                        self._build(name, self.commands[name])
                    else:
                        self._copy()
        return self.folder

    def _missing(self) -> list[str]:
        names = [*self.commands, *(self.files or ())[:1]]
        return [name for name in names if not (self.folder / name).exists()]

    def _copy(self) -> None:
        assert self.files is not None
        name, module, path = self.files
        source = self._go("list", "-m", "-f", "{{.Dir}}", module).strip()
        fresh = self.folder / f"{name}.new"
        shutil.copytree(Path(source) / path, fresh, dirs_exist_ok=True)
        fresh.rename(self.folder / name)  # so that nobody finds half of it

    def _build(self, command: str, package: str) -> None:
        fresh = self.folder / f"{command}.new"
        flags = ["-trimpath", f"-ldflags=-s -w {self.link}".rstrip(), f"-tags={self.tags}"]
        self._go("build", *flags, "-o", str(fresh), package)
        fresh.rename(self.folder / command)

    def _go(self, *arguments: str) -> str:
        """Run Go in the module; what it printed."""
        go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
        if go is None:
            raise ServerMissing("install Go 1.26 or newer")
        line = [go, *arguments]
        if nice := shutil.which("nice"):
            line = [nice, "-n", "19", *line]
        done = subprocess.run(
            line,
            cwd=self.module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
        if done.returncode:
            raise ServerMissing(f"go {arguments[0]} failed: {done.stderr[-600:]}")
        return done.stdout


def sources(module: Path) -> str:
    """The version of a module that is our own: another for any change of its sources."""
    seen = hashlib.sha256()
    for path in sorted(module.rglob("*.*")):
        seen.update(path.read_bytes())
    return seen.hexdigest()[:8]
