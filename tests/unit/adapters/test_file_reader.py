"""Reading lines: any way of writing and reading gives each line once, in order."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents_adapters import file_reader
from ofevents_adapters.file_positions import Identity, Position
from ofevents_adapters.file_reader import Found, Line, Reader, gone, look, whole


def identity(path: Path) -> Identity:
    status = path.stat()
    return Identity(status.st_dev, status.st_ino)


def drain(reader: Reader, path: Path, position: Position) -> tuple[list[Line], Position]:
    """All there is now."""
    found: list[Line] = []
    while True:
        answer = reader.read(identity(path), str(path), position, now=position.since + 1)
        assert answer is not None
        lines, after = answer
        if after == position:
            return found, after
        found += lines
        position = after


@given(
    parts=st.lists(st.binary(max_size=30), max_size=12),
    chunk=st.integers(2, 40),
    batch=st.integers(1, 5),
)
def test_lines_come_as_they_were_written(parts: list[bytes], chunk: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_reader, "_CHUNK", chunk)
        patch.setattr(file_reader, "BATCH", batch)
        path = Path(folder, "a")
        path.touch()
        position, found = Position(str(path), since=1), []
        for part in parts:
            with path.open("ab") as file:
                file.write(part)
            reader = Reader()  # as after a restart
            lines, position = drain(reader, path, position)
            reader.close()
            found += lines
        written = b"".join(parts)
        *ended, _ = written.split(b"\n")
        assert [line.data for line in found] == [
            text for each in ended if (text := each.removesuffix(b"\r"))
        ]
        assert all(written[line.offset :].startswith(line.data) for line in found)
        assert position.since == 1


def test_the_position_begins_anew_when_the_beginning_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one\ntwo\n")
    reader = Reader()
    _, position = drain(reader, path, Position(str(path), since=5))
    path.write_bytes(b"eins\nzwei\ndrei\n")
    lines, after = drain(reader, path, position)
    assert [line.data for line in lines] == [b"eins", b"zwei", b"drei"]
    assert after.since > position.since
    reader.close()


def test_few_files_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reader, "OPEN", 3)
    reader = Reader()
    for number in range(10):
        path = tmp_path / str(number)
        path.write_text("1\n")
        drain(reader, path, Position(str(path), since=1))
    assert len(reader._open) == 3
    reader.close()
    assert not reader._open


def test_a_file_that_was_replaced_since_the_look_is_left_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n")
    other = replace(Position(str(path), since=1))
    assert Reader().read(Identity(1, 2), str(path), other, now=1) is None
    assert Reader().read(Identity(1, 2), str(tmp_path / "b"), other, now=1) is None


def test_a_look_finds_files_once_and_renamed_ones(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_text("1\n")
    (tmp_path / "d.log").mkdir()
    (tmp_path / "e.log").symlink_to(tmp_path / "a.log")
    moved = identity(tmp_path / "c.txt")
    known = {moved: Position(str(tmp_path / "before.log"), since=1)}
    found = look(str(tmp_path / "*.log"), known)
    assert sorted(Path(one.path).name for one in found.values()) == ["a.log", "b.log", "c.txt"]


def test_only_what_was_deleted_is_gone(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    assert gone(Identity(device, 1), str(tmp_path / "a" / "b.log"))
    assert not gone(Identity(device + 1, 1), str(tmp_path / "b.log")), "its disk is not mounted"


def test_a_whole_file_that_was_changed_meanwhile_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123")
    status = path.stat()
    found = Found(identity(path), str(path), 3, status.st_mtime_ns)
    assert whole(found, 100) == b"123"
    assert whole(replace(found, modified=1), 100) is None
    path.unlink()
    assert whole(found, 100) is None
