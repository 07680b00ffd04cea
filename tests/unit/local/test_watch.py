"""`--watch`: replaced, deleted, added and foreign files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ofevents.local import watch
from tests.servers import until


@asynccontextmanager
async def watching(*files: Path) -> AsyncIterator[list[set[str]]]:
    seen: list[set[str]] = []
    began = asyncio.Event()

    async def collect() -> None:
        changes = watch.changes(list(files))
        began.set()
        async for paths in changes:
            names = {path.name for path in paths}
            seen.append(names)

    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        task = group.create_task(collect())
        await began.wait()
        # The watcher says nothing when it is ready: touch a file until it is seen.
        probe = files[0] / "probe.yaml" if files[0].is_dir() else files[0]
        while not seen:
            probe.write_text(str(os.urandom(4)))
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.6)
        seen.clear()
        yield seen
        task.cancel()


async def test_an_atomically_replaced_file_is_there(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("1")
    async with watching(file) as seen:
        draft = tmp_path / ".a.yaml.swp"
        draft.write_text("2")
        os.replace(draft, file)
        await until(lambda: {"a.yaml"} in seen, seconds=20, what="the change")
        assert set().union(*seen) == {"a.yaml"}
        assert watch.existing([file]) == [file]


async def test_deleted_and_written_again_is_one_change(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("1")
    async with watching(file) as seen:
        file.unlink()
        await asyncio.sleep(0.15)
        file.write_text("2")
        await until(lambda: bool(seen), seconds=20, what="the change")
        assert file.exists()


async def test_a_deleted_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("1")
    async with watching(tmp_path) as seen:
        (tmp_path / "b.yml").unlink()
        await until(lambda: {"b.yml"} in seen, seconds=20, what="the deletion")


async def test_other_files_are_none_of_our_business(tmp_path: Path) -> None:
    async with watching(tmp_path) as seen:
        (tmp_path / "charge.py").write_text("1")
        (tmp_path / ".hidden.yaml").write_text("1")
        (tmp_path / "new.yaml").write_text("1")
        await until(lambda: {"new.yaml"} in seen, seconds=20, what="the new file")
        # What the watcher was touched with may be told once more, late.
        assert set().union(*seen) - {"probe.yaml"} == {"new.yaml"}
