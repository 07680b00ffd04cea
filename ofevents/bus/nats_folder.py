"""The folder of an embedded nats-server: its lock, ports, configuration and room.

Called by `embedded` only. The lock is the kernel's, so it is gone with its
owner, also by kill -9; the pid in the file is for the message alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from pathlib import Path
from typing import IO, Any, Final, Literal

from ofevents.bus.layout import SHARES
from ofevents.errors import ConfigError

MAX_PAYLOAD: Final = 8 * 1024 * 1024
_DISK_SHARE: Final = 0.75
_LEAST_FREE: Final = 64 * 1024**2
_LEAST_TO_GO_ON: Final = 16 * 1024**2


class NatsFolder:
    """See the module. `port` and `monitor` are known after `write_config`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self.monitor = 0
        self._lock: IO[str] | None = None

    @property
    def config(self) -> Path:
        return self.path / "nats.conf"

    @property
    def log(self) -> Path:
        return self.path / "nats.log"

    @property
    def store(self) -> Path:
        return self.path / "jetstream"

    def hold(self) -> None:
        """Make the folder and become its only owner.

        Raises:
            ConfigError: another process is; says which.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise ConfigError(
                f"the bus's data in {self.path} is in use by process {owner}: end it, or "
                "choose another data directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._lock = file

    def release(self) -> None:
        """Let another process hold it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_config(self, *, sync: Literal["default", "always"], max_bytes: int | None) -> None:
        """Choose the ports and write the server's configuration.

        Raises:
            ConfigError: the disk has no room for it.
        """
        self._choose_ports()
        store: dict[str, Any] = {
            "store_dir": str(self.store),
            "max_file_store": self._room(max_bytes),
        }
        if sync == "always":
            store["sync_interval"] = "always"
        config = {
            "server_name": "ofevents",
            "host": "127.0.0.1",
            "port": self.port,
            "http": f"127.0.0.1:{self.monitor}",
            "log_file": str(self.log),
            "logfile_size_limit": 10 * 1024**2,
            "logfile_max_num": 3,
            "max_payload": MAX_PAYLOAD,
            "jetstream": store,
        }
        # The server's format is a superset of JSON.
        self.config.write_text(json.dumps(config, indent=1))

    def _choose_ports(self) -> None:
        """The ports of the last time where they are free."""
        remembered = self.path / "ports.json"
        try:
            wanted = [int(port) for port in json.loads(remembered.read_text())]
        except (OSError, ValueError, TypeError):
            wanted = []
        self.port, self.monitor = _free_ports(wanted)
        remembered.write_text(json.dumps([self.port, self.monitor]))

    def _room(self, max_bytes: int | None) -> int:
        """Bytes that the server may store in all."""
        used = sum(one.stat().st_size for one in self.store.rglob("*") if one.is_file())
        disk = int(_DISK_SHARE * (shutil.disk_usage(self.path).free + used))
        if max_bytes is None:
            if disk < _LEAST_FREE:
                raise ConfigError(
                    f"the disk of {self.path} is nearly full: the bus needs at least "
                    f"{_LEAST_FREE // 1024**2} MiB"
                )
            return disk
        if SHARES * max_bytes > disk:
            raise ConfigError(
                f"maxBytes of {max_bytes} is too much for the disk of {self.path}: with user "
                f"topics, inboxes and dead letters {SHARES} times as much is needed, and {disk} "
                "bytes may be used",
                path="spec.jetstream.maxBytes",
            )
        return min(disk, SHARES * max_bytes + _LEAST_FREE)

    def is_full(self) -> bool:
        """Whether the disk has no room to go on with."""
        return shutil.disk_usage(self.path).free < _LEAST_TO_GO_ON

    def log_tail(self) -> str:
        """The last lines of the server's log, for an error message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "none"
        return " | ".join(lines[-3:])


def _free_ports(wanted: list[int]) -> list[int]:
    """Two free ports of 127.0.0.1, those wanted where they are."""
    with contextlib.ExitStack() as stack:
        chosen = []
        for index in range(2):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted[index] if index < len(wanted) else 0))
            except (OSError, OverflowError):
                probe.bind(("127.0.0.1", 0))
            chosen.append(int(probe.getsockname()[1]))
        return chosen
