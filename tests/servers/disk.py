"""A small file system of its own, for a server whose disk fills up.

with SmallDisk(folder, "256m") as disk:
    disk.fill()
    disk.free()
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers import ServerMissing

_CHUNK: Final = 1024 * 1024


class SmallDisk:
    """A tmpfs mounted on `folder`; nothing may be open in it when it is left."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        self._size = size
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        """Mount it.

        Raises:
            ServerMissing: this process may not mount.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self.folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except OSError as error:
            raise ServerMissing(f"a full disk needs `mount`: {error}") from error
        if done.returncode:
            raise ServerMissing(f"a full disk needs the right to mount: {done.stderr.strip()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(["umount", str(self.folder)], check=True, timeout=20)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            size = _CHUNK
            while size:
                try:
                    ballast.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)
