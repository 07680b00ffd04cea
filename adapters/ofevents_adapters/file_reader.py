"""Looking for files and reading lines of them; called by `file`, in a thread of its own.

A file is known by device and inode, so it is followed when it is renamed. One that is in
use is kept open: what was written just before it was deleted is read all the same. It
begins anew when it is shorter than what was read of it, or does not begin with the bytes
that it began with: it was emptied (copytruncate), or its inode is used again.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from ofevents_adapters.file_positions import Identity, Position

LONGEST: Final = 1024 * 1024
"""Bytes of a line at most; of a longer one, `KEPT` bytes go to the dead letters."""
KEPT: Final = 65536
BATCH: Final = 500
"""Lines of one reading at most."""
OPEN: Final = 256
"""Files that are kept open at most: those that were read last."""
_CHUNK: Final = 128 * 1024
_HEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a look has found it."""

    file: Identity
    path: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, and the offset of its first byte; `cut` if it is too long."""

    offset: int
    data: bytes
    cut: bool = False


def look(pattern: str, known: Mapping[Identity, Position]) -> dict[Identity, Found]:
    """The files that match, and known ones that were renamed inside their folder.

    In the order of their last change, so that a rotated file comes before the new one.
    """
    found: dict[Identity, Found] = {}
    for path in sorted(glob.iglob(pattern, recursive=True)):
        _see(path, found)
    missing = {file for file in known if file not in found}
    for folder in {Path(known[file].path).parent for file in missing}:
        try:
            inodes = {entry.inode(): entry.path for entry in os.scandir(folder)}
        except OSError:
            continue  # the folder is gone, and the files with it
        for file in missing:
            if file.inode in inodes:
                _see(inodes[file.inode], found, only=file)
    return dict(sorted(found.items(), key=lambda item: item[1].modified))


def gone(file: Identity, path: str) -> bool:
    """Whether a file that a look has not found was deleted.

    Where the file system that it is on is not there, such as a mount that was lost, it
    may come back.
    """
    folder = Path(path).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return folder.stat().st_dev == file.device
    except OSError:
        return False


def _see(path: str, found: dict[Identity, Found], only: Identity | None = None) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return  # gone between the two calls, or not for us to see
    file = Identity(status.st_dev, status.st_ino)
    if stat.S_ISREG(status.st_mode) and file not in found and only in (None, file):
        found[file] = Found(file, path, status.st_size, status.st_mtime_ns)


class Reader:
    """Reads lines; holds what is open. Not for several threads at once."""

    def __init__(self) -> None:
        self._open: OrderedDict[Identity, BinaryIO] = OrderedDict()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def drop(self, file: Identity) -> None:
        """Close it; it is gone."""
        if (handle := self._open.pop(file, None)) is not None:
            handle.close()

    def last_line_end(self, found: Found) -> int:
        """The offset after the last whole line: where `start: end` begins."""
        handle = self._handle(found.file, found.path)
        if handle is None:
            return 0
        end = handle.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _CHUNK)
            handle.seek(begin)
            if (at := handle.read(end - begin).rfind(b"\n")) >= 0:
                return begin + at + 1
            end = begin
        return 0

    def read(
        self, file: Identity, path: str, position: Position, *, now: int, ended: bool = False
    ) -> tuple[list[Line], Position] | None:
        """The next lines, and the position after them; None when the file cannot be opened.

        Args:
            path: its name now.
            now: milliseconds, for a file that begins anew.
            ended: it was deleted: what is left without an end of line is a line too.
        """
        handle = self._handle(file, path)
        if handle is None:
            return None
        size = os.fstat(handle.fileno()).st_size
        if size < position.offset or _head(handle, position.head) != position.digest:
            position = Position(position.path, since=max(now, position.since + 1))
        lines, position = self._lines(handle, position, size if ended else None)
        if position.head < _HEAD and position.offset > position.head:
            head = min(position.offset, _HEAD)
            position = replace(position, head=head, digest=_head(handle, head))
        return lines, position

    def _lines(
        self, handle: BinaryIO, position: Position, end_of_file: int | None
    ) -> tuple[list[Line], Position]:
        handle.seek(position.offset)
        data = handle.read(_CHUNK)
        if b"\n" not in data and len(data) == _CHUNK:
            data += handle.read(LONGEST - _CHUNK)
        lines: list[Line] = []
        at, skipping = 0, position.skipping
        while len(lines) < BATCH:
            end = data.find(b"\n", at)
            if end < 0:
                break
            if not skipping:
                _append(lines, position.offset + at, data[at:end])
            at, skipping = end + 1, False
        if at == 0 and len(data) == LONGEST:  # no end of line in sight
            if not skipping:
                lines.append(Line(position.offset, data[:KEPT], cut=True))
            at, skipping = len(data), True
        elif len(lines) < BATCH and position.offset + len(data) == end_of_file:
            if not skipping:
                _append(lines, position.offset + at, data[at:])
            at = len(data)
        return lines, replace(position, offset=position.offset + at, skipping=skipping)

    def _handle(self, file: Identity, path: str) -> BinaryIO | None:
        handle = self._open.pop(file, None)
        if handle is None:
            try:
                handle = open(path, "rb", buffering=0)  # noqa: SIM115
            except OSError:
                return None
            status = os.fstat(handle.fileno())
            if Identity(status.st_dev, status.st_ino) != file:
                handle.close()  # renamed since the look: the next one finds it
                return None
        self._open[file] = handle
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].close()
        return handle


def _append(lines: list[Line], offset: int, data: bytes) -> None:
    data = data.removesuffix(b"\r")
    if data:
        lines.append(Line(offset, data))


def _head(handle: BinaryIO, length: int) -> str:
    """A digest of the file's first bytes; "" of none."""
    if not length:
        return ""
    handle.seek(0)
    return hashlib.blake2b(handle.read(length), digest_size=8).hexdigest()


def whole(found: Found, most: int) -> bytes | None:
    """A file's contents, at most `most` bytes; None when it is gone or was written again."""
    try:
        with open(found.path, "rb") as handle:
            data = handle.read(most)
            status = os.fstat(handle.fileno())
    except OSError:
        return None
    same = Identity(status.st_dev, status.st_ino) == found.file
    unchanged = (status.st_size, status.st_mtime_ns) == (found.size, found.modified)
    return data if same and unchanged else None
