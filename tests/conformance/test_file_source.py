"""What only files have: rotation, restarts, long lines, deleted files; on a real disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import PermanentError
from ofevents.event import BrokenEvent, Event
from ofevents.ports import Reply
from ofevents_adapters import file as file_source
from ofevents_adapters import file_reader, settle
from tests.conformance.rigs.doomed import line_of
from tests.conformance.rigs.file import FileRig, FilesRig, open_files, open_lines
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def lines() -> AsyncIterator[FileRig]:
    async with open_lines() as rig:
        rig.fields["format"] = "text"
        yield rig


@pytest.fixture
async def files() -> AsyncIterator[FilesRig]:
    async with open_files() as rig:
        rig.fields["format"] = "text"
        yield rig


@asynccontextmanager
async def reading(rig: FileRig, **fields: Any) -> AsyncIterator[Emitted]:
    """A worker with these fields, while in the `with`."""
    rig.fields |= fields
    emit = Emitted(rig)
    async with working(rig, emit):
        yield emit


def texts(emit: Emitted) -> list[object]:
    return [event.value for event in emit.settled]


async def came(emit: Emitted, *wanted: str) -> None:
    await within(lambda: len(emit.settled) >= len(wanted), f"{wanted} came, not {texts(emit)}")
    assert texts(emit) == list(wanted)


@pytest.fixture(autouse=True)
def _keys_are_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileRig, "key", lambda self, event: str(event.value))


# -- lines ------------------------------------------------------------------------


async def test_a_line_without_an_end_waits(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"one\r\n\ntwo\nthr")
        await came(emit, "one", "two")
        await asyncio.sleep(0.5)  # more than two looks
        lines.append(b"ee\n")
        await came(emit, "one", "two", "three")
    offsets = [event.id.rpartition("/")[2] for event in emit.settled]
    assert offsets == ["0", "6", "10"]
    assert emit.settled[0].attributes["subject"] == str(lines.log)
    assert emit.settled[0].partitionkey == str(lines.log)


async def test_a_restart_goes_on_where_it_was(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"one\ntwo\n")
        await came(emit, "one", "two")
    lines.append(b"three\n")
    async with reading(lines) as emit:
        await came(emit, "three")


async def test_without_a_bus_a_restart_begins_at_the_start(lines: FileRig) -> None:
    lines.store = None
    for _ in range(2):
        async with reading(lines) as emit:
            if not lines.log.exists():
                lines.append(b"one\ntwo\n")
            await came(emit, "one", "two")
        assert emit.most_inside == 1


async def test_start_at_the_end_leaves_out_whole_lines_that_were_there(lines: FileRig) -> None:
    lines.append(b"old\nhalf ")
    async with reading(lines, start="end") as emit:
        lines.append(b"and half\n")
        await came(emit, "half and half")
    (lines.folder / "new.log").write_text("of a new file\n")
    async with reading(lines, start="end") as emit:
        await came(emit, "of a new file")


async def test_rotation_by_rename(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"one\n")
        await came(emit, "one")
        with lines.log.open("ab") as program:
            os.rename(lines.log, lines.folder / "shop.log.1")
            program.write(b"two, after the rename\n")
        lines.append(b"three\n")
        await came(emit, "one", "two, after the rename", "three")
    assert {event.attributes["subject"] for event in emit.settled} == {str(lines.log)}


async def test_rotation_while_nobody_reads(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"one\n")
        await came(emit, "one")
    lines.append(b"two\n")
    os.rename(lines.log, lines.folder / "shop.log.1")
    lines.append(b"three\n")
    async with reading(lines) as emit:
        await came(emit, "two", "three")


async def test_a_long_rotated_file_comes_before_the_new_one(
    lines: FileRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "_TURN", 1)
    monkeypatch.setattr(file_reader, "BATCH", 10)
    async with reading(lines) as emit:
        emit.gate.clear()
        lines.append(b"0\n")
        await within(lambda: emit.inside > 0, "a line came to emit")
        lines.append(b"".join(b"%d\n" % n for n in range(1, 100)))
        os.rename(lines.log, lines.folder / "shop.log.1")
        lines.append(b"".join(b"%d\n" % n for n in range(100, 150)))
        emit.gate.set()
        await came(emit, *map(str, range(150)))


@pytest.mark.parametrize("after", [b"new\n", b"new, and longer than what was there before\n"])
async def test_copytruncate(lines: FileRig, after: bytes) -> None:
    async with reading(lines) as emit:
        lines.append(b"old, quite long\n")
        await came(emit, "old, quite long")
        shutil.copy(lines.log, lines.folder / "shop.log.1")
        os.truncate(lines.log, 0)
        lines.append(after)
        await came(emit, "old, quite long", after.decode().rstrip())
    first, second = emit.settled
    assert first.id.partition("@")[0] == second.id.partition("@")[0], "it is the same file"
    assert first.id != second.id, "and not the same event: the bus would take one for the other"


async def test_an_inode_that_is_used_again_is_another_file(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"the first file\n")
        await came(emit, "the first file")
    inode = lines.log.stat().st_ino
    # What a disk does that gives a new file the inode of a deleted one.
    with lines.log.open("r+b") as file:
        file.write(b"quite another file, which is longer\n")
    assert lines.log.stat().st_ino == inode
    async with reading(lines) as emit:
        await came(emit, "quite another file, which is longer")


async def test_a_deleted_file_is_read_to_its_end(lines: FileRig) -> None:
    async with reading(lines) as emit:
        emit.gate.clear()
        lines.append(b"one\n")
        await within(lambda: emit.inside > 0, "a line came to emit")
        lines.append(b"two\nthree without an end")
        lines.log.unlink()
        emit.gate.set()
        await came(emit, "one", "two", "three without an end")
        lines.append(b"of a new file\n")
        await came(emit, "one", "two", "three without an end", "of a new file")
    assert lines.store is not None
    kept = [key async for key, _ in lines.store.list("file/")]
    assert len(kept) == 2, f"the mark of the first look, and one position: {kept}"


async def test_a_line_that_is_too_long_is_a_dead_letter_and_holds_up_nothing(
    lines: FileRig,
) -> None:
    async with reading(lines) as emit:
        lines.append(b"before\n")
        for _ in range(30):
            lines.append(b"x" * 100_000)
        await within(lambda: len(emit.settled) == 2, "the long line came")
        lines.append(b"y" * 100_000 + b"\nafter\n")
        await within(lambda: len(emit.settled) == 3, "the line after it came")
    _, long, after = emit.settled
    assert isinstance(long, BrokenEvent) and long.type == "ofevents.file.malformed"
    assert long.data == b"x" * file_reader.KEPT
    assert f"byte 7 of {lines.log} has more than 1048576 bytes" in str(long.error)
    assert after.value == "after"


async def test_a_restart_inside_a_line_that_is_too_long(lines: FileRig) -> None:
    lines.append(b"x" * 2_000_000)
    async with reading(lines) as emit:
        await within(lambda: len(emit.settled) == 1, "the long line came")
    lines.append(b"its end\nafter\n")
    async with reading(lines) as emit:
        await came(emit, "after")


async def test_what_is_no_utf8_is_a_dead_letter(lines: FileRig) -> None:
    async with reading(lines) as emit:
        lines.append(b"gr\xfc\xdfe\nafter\n")
        await within(lambda: len(emit.settled) == 2, "both came")
    broken, after = emit.settled
    assert isinstance(broken, BrokenEvent) and broken.data == b"gr\xfc\xdfe"
    assert "is not UTF-8" in str(broken.error) and "format: binary" in str(broken.error)
    assert after.value == "after"


async def test_many_files_in_many_folders(lines: FileRig) -> None:
    lines.fields["path"] = str(lines.folder / "**" / "*.log")
    async with reading(lines) as emit:
        for number in range(40):
            folder = lines.folder / f"a{number % 4}" / "b"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.log").write_text(f"{number}\n")
        await within(lambda: len(emit.settled) == 40, "a line of each")
    assert set(texts(emit)) == {str(n) for n in range(40)}


async def test_a_folder_that_comes_later(lines: FileRig) -> None:
    lines.fields["path"] = str(lines.folder / "later" / "*.log")
    async with reading(lines) as emit:
        (lines.folder / "later").mkdir()
        (lines.folder / "later" / "a.log").write_text("one\n")
        await came(emit, "one")


async def test_a_full_window_holds_few_lines(lines: FileRig) -> None:
    lines.append(b"".join(b"%d\n" % n for n in range(5000)))
    async with reading(lines) as emit:
        await within(lambda: len(emit.settled) == 5000, "all came")
    assert texts(emit) == [str(n) for n in range(5000)]
    assert emit.most_inside <= file_reader.BATCH


async def test_an_event_that_nothing_takes_is_never_skipped(
    lines: FileRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit, refused = Emitted(lines), [0]

    async def picky(*events: Event) -> Reply | None:
        if any(event.value == "two" for event in events) and refused[0] < 3:
            refused[0] += 1
            raise PermanentError("no dead letter can take it")
        return await emit(*events)

    lines.append(b"one\ntwo\nthree\n")
    monkeypatch.setattr(settle, "LONGEST", 0.05)
    async with working(lines, picky):  # type: ignore[arg-type]
        await came(emit, "one", "two", "three")


# -- several workers --------------------------------------------------------------


async def test_one_worker_reads_and_another_takes_over(lines: FileRig) -> None:
    one, two = Emitted(lines), Emitted(lines)
    async with working(lines, one):
        lines.append(b"one\n")
        await came(one, "one")
        async with working(lines, two) as standby:
            assert "another worker reads" in standby.started[0]
            lines.append(b"two\n")
            await came(one, "one", "two")
            assert not two.offered
    async with reading(lines) as emit:
        lines.append(b"three\n")
        await came(emit, "three")
    assert not two.offered


WORKER = """
import asyncio, sys
from ofevents.api.platform import FileSpec
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.errors import Disconnected
from ofevents.ports import SourceIdentity
from ofevents_adapters import file

file.LEASE = 2.0

async def emit(*events):
    await asyncio.sleep(0.02)  # most of its time it is in here, also when it is killed
    for event in events:
        sys.stdout.write(f"{event.id} {event.value}\\n")
        sys.stdout.flush()

async def main():
    bus = ResolvedBus(name="b", driver="jetstream", options={"url": sys.argv[1]})
    async with open_bus(bus, clock=SystemClock()) as bus:
        await bus.ensure([topics.event("default", "shop", "orders")], [])
        identity = SourceIdentity("default", "shop", "file", "orders")
        source = file.FileSource(FileSpec(path=sys.argv[2]), identity, clock=SystemClock())
        while True:  # as the engine: a lease is lost in a pause, too
            try:
                await source.run(emit, store=bus.store, started=lambda address: None)
            except Disconnected:
                await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_a_worker_that_is_killed_repeats_little_and_loses_nothing(
    lines: FileRig, tmp_path: Path
) -> None:
    """kill -9 again and again while lines are written and rotated: each comes, with one id."""
    seen: dict[str, set[str]] = {}
    written = 0
    pattern = str(lines.folder / "shop.log*")  # also what was made and renamed while nobody looked

    def note(output: bytes) -> None:
        """What the worker's emit has taken; it is settled, though it was killed."""
        for line in output.decode().splitlines(keepends=True):
            if line.endswith("\n"):  # it may have been killed inside a line
                id, text = line.split()
                seen.setdefault(text, set()).add(id)

    async with NatsServer(tmp_path) as server:
        for life in range(4):
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, server.url, pattern, stdout=subprocess.PIPE
            )
            assert worker.stdout is not None
            try:
                for _ in range(3):
                    lines.append(b"".join(b"%d\n" % n for n in range(written, written + 1500)))
                    written += 1500
                    for _ in range(100 if life < 3 else 0):
                        note(await line_of(worker.stdout))
                while life == 3 and len(seen) < written:
                    note(await line_of(worker.stdout))
                os.rename(lines.log, lines.folder / f"shop.log.{written}")
            finally:
                worker.send_signal(signal.SIGKILL)
                note(await worker.stdout.read())
                await worker.wait()
    assert sorted(map(int, seen)) == list(range(written))
    several = {text: ids for text, ids in seen.items() if len(ids) > 1}
    assert not several, f"a line that came again had another id: {several}"


# -- whole files ------------------------------------------------------------------


async def test_a_file_is_an_event_once_it_is_whole(files: FilesRig) -> None:
    path = files.folder / "a.log"
    async with reading(files, pollingInterval="600ms") as emit:
        with path.open("wb") as file:
            for part in (b"one\n", b"two\n", b"three"):
                file.write(part)
                file.flush()
                await asyncio.sleep(0.2)
        await came(emit, "one\ntwo\nthree")
    [event] = emit.settled
    assert event.attributes["subject"] == str(path)
    assert "time" in event.attributes


async def test_a_file_comes_once_and_again_when_it_is_written_anew(files: FilesRig) -> None:
    async with reading(files) as emit:
        files.put("a.log", b"one")
        await came(emit, "one")
    os.rename(files.folder / "a.log", files.folder / "renamed.log")
    async with reading(files) as emit:
        files.put("b.log", b"two")
        await came(emit, "two")
        (files.folder / "renamed.log").write_bytes(b"three")
        await came(emit, "two", "three")


async def test_files_that_were_there_before(files: FilesRig) -> None:
    files.put("a.log", b"old")
    async with reading(files, start="end") as emit:
        files.put("b.log", b"new")
        await came(emit, "new")


async def test_a_file_that_is_too_large_is_a_dead_letter(
    files: FilesRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofevents_adapters.file_record.LARGEST", 1000)
    monkeypatch.setattr("ofevents_adapters.file_record.KEPT", 100)
    async with reading(files) as emit:
        files.put("a.log", b"x" * 1001)
        await within(lambda: len(emit.settled) == 1, "it came")
    [event] = emit.settled
    assert isinstance(event, BrokenEvent) and event.data == b"x" * 100
    assert "has 1001 bytes, more than 1000" in str(event.error)
