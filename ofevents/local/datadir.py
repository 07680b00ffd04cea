"""The data directory of `ofevents run`: one owner at a time, and where it is found.

    .ofevents/lock         flock of the running `ofevents run`; holds its pid
    .ofevents/state.json   what runs: pid, bus (a ResolvedBus), programs, admin address
    .ofevents/...          the embedded nats-server's own folder (`bus.embedded`)

The lock is the kernel's, so a kill -9 frees it; the pid in it is only for the
message. `send`, `tail` and `topics` read the state file to find the embedded
bus, and a later run ends the programs that a killed one left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from ofevents.errors import ConfigError

NAME = ".ofevents"


def beside(first: Path) -> Path:
    """The default data directory: beside the first -f (in it, where it is a folder)."""
    return (first if first.is_dir() else first.parent) / NAME


@dataclass(frozen=True, slots=True)
class ProgramMark:
    """A program started by `--with`; `created` tells a reused pid from it."""

    pid: int
    created: float


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says.

    Attributes:
        pid: of `ofevents run`.
        buses: `namespace/name` or `/name` (cluster) to the ResolvedBus as JSON.
        programs: started by `--with`, so that a later run can end them.
        admin: URL of the probes and metrics, "" when they are off.
    """

    pid: int
    buses: dict[str, dict[str, Any]] = field(default_factory=dict)
    programs: tuple[ProgramMark, ...] = ()
    admin: str = ""


class DataDirectory:
    """A data directory that this process holds; made by `hold`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = State(pid=os.getpid())

    def write(self, **changes: Any) -> None:
        """Change fields of the state file, atomically; only its owner may read it."""
        self._state = replace(self._state, **changes)
        target = self.path / "state.json"
        draft = target.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self._state), indent=1))
        os.replace(draft, target)

    def orphans(self) -> list[psutil.Process]:
        """Programs of an earlier run that was killed and that still run."""
        earlier = read(self.path)
        found = [_alive(mark) for mark in earlier.programs] if earlier else []
        return [process for process in found if process is not None]


def read(path: Path) -> State | None:
    """The state file of that data directory, None where there is none to read."""
    try:
        raw = json.loads((path / "state.json").read_text())
        programs = tuple(ProgramMark(**mark) for mark in raw.pop("programs", ()))
        return State(**raw, programs=programs)
    except (OSError, ValueError, TypeError):
        return None


def held(path: Path) -> bool:
    """Whether an `ofevents run` holds that data directory now."""
    try:
        with (path / "lock").open("r") as lock:
            return not _try_lock(lock.fileno())
    except OSError:
        return False


@contextlib.contextmanager
def hold(path: Path) -> Iterator[DataDirectory]:
    """Own the data directory, made where it is missing, until the block ends.

    Raises:
        ConfigError: another `ofevents run` owns it (its pid is named), or the folder
            cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        ignore = path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise ConfigError(
            f"the data directory {path} cannot be used: {error.strerror or error}; "
            "choose another one with --data DIR"
        ) from error
    with lock:
        if not _try_lock(lock.fileno()):
            lock.seek(0)
            pid = lock.read().strip() or "not known"
            raise ConfigError(
                f"another `ofevents run` (pid {pid}) uses the data directory {path}: "
                "end it first, or choose another directory with --data DIR"
            )
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield DataDirectory(path)
        with contextlib.suppress(OSError):
            (path / "state.json").unlink()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def mark(pid: int) -> ProgramMark | None:
    """How to know that process again; None when it has ended already."""
    try:
        return ProgramMark(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _alive(marked: ProgramMark) -> psutil.Process | None:
    try:
        process = psutil.Process(marked.pid)
        same = abs(process.create_time() - marked.created) < 0.05
    except psutil.Error:
        return None
    return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def end(process: psutil.Process) -> None:
    """End an orphan and what it started: SIGTERM to its group, SIGKILL after 2 s."""
    with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 2
        # A zombie has ended: its parent is gone, and not every container reaps.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                return
            time.sleep(0.01)


def end_all(processes: Sequence[psutil.Process]) -> None:
    """`end` for each."""
    for process in processes:
        end(process)
