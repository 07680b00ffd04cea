"""The `file` source on a real folder: lines that are appended, and whole files."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ofevents.api.platform import FileSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters.file import FileSource
from ofevents_adapters.file_reader import BATCH

IDENTITY = SourceIdentity("default", "shop", "file", "orders")


class FileRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    features = FileSource.features
    breakable = False
    poisonable = True

    def __init__(self, folder: Path, in_flight: int, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.folder = folder
        self.log = folder / "shop.log"
        self.in_flight = in_flight
        self.fields = {"format": "json", "pollingInterval": "200ms", **fields}
        self._count = itertools.count()

    def make(self) -> FileSource:
        document = {"path": str(self.folder / "*.log"), **self.fields}
        return FileSource(FileSpec.model_validate(document), IDENTITY, clock=SystemClock())

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        self.append(b"".join(b'{"number":%d}\n' % n for n in numbers))
        return [str(n) for n in numbers]

    def append(self, data: bytes) -> None:
        """Write at the end of the log, as a program that logs does."""
        with self.log.open("ab") as file:
            file.write(data)

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.file" else ""

    async def poison(self) -> bool:
        self.append(b'{"no JSON\xff\n')
        return True

    async def break_(self) -> None:
        raise NotImplementedError("a file system is not taken away")

    async def restart(self) -> None:
        raise NotImplementedError("a file system is not taken away")


class FilesRig(FileRig):
    """A record is a file of its own."""

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        for number in numbers:
            self.put(f"{number:06}.log", b'{"number":%d}' % number)
        return [str(n) for n in numbers]

    def put(self, name: str, data: bytes) -> None:
        """Write beside, then move: the name never stands for half a file."""
        path = self.folder / f"{name}.part"
        path.write_bytes(data)
        os.rename(path, self.folder / name)

    async def poison(self) -> bool:
        self.put(f"{next(self._count):06}.log", b"no JSON\xff")
        return True


@asynccontextmanager
async def open_lines() -> AsyncIterator[FileRig]:
    with tempfile.TemporaryDirectory() as folder:
        yield FileRig(Path(folder), BATCH)


@asynccontextmanager
async def open_files() -> AsyncIterator[FilesRig]:
    with tempfile.TemporaryDirectory() as folder:
        yield FilesRig(Path(folder), 1, mode="files")
