"""The data directory: one owner, a pid for the message, orphans known again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofevents.errors import ConfigError
from ofevents.local import datadir


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


def test_it_is_beside_the_first_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.touch()
    assert datadir.beside(file) == tmp_path / ".ofevents"
    assert datadir.beside(tmp_path) == tmp_path / ".ofevents"


def test_a_second_owner_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with datadir.hold(tmp_path / "d"):
        assert datadir.held(tmp_path / "d")
        with (
            pytest.raises(ConfigError, match=rf"pid {os.getpid()}.*--data"),
            datadir.hold(tmp_path / "d"),
        ):
            pass
    assert not datadir.held(tmp_path / "d")
    with datadir.hold(tmp_path / "d"):
        pass


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--data DIR"), datadir.hold(tmp_path / "file" / "d"):
        pass


def test_state_is_for_its_owner_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    with datadir.hold(tmp_path) as held:
        held.write(buses={"/default": {"driver": "jetstream"}})
        held.write(admin="http://127.0.0.1:1")
        state = datadir.read(tmp_path)
        assert state is not None
        assert (state.pid, state.admin) == (os.getpid(), "http://127.0.0.1:1")
        assert state.buses == {"/default": {"driver": "jetstream"}}
        assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
    assert datadir.read(tmp_path) is None


def test_a_broken_state_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"pid": 1, "unknown": 2}')
    assert datadir.read(tmp_path) is None
    (tmp_path / "state.json").write_text("{")
    assert datadir.read(tmp_path) is None


def test_orphans_are_found_and_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    mark = datadir.mark(sleeper.pid)
    assert mark is not None
    with datadir.hold(tmp_path) as held:
        held.write(programs=(mark, datadir.ProgramMark(mark.pid, mark.created - 100)))
        found = held.orphans()
        assert [process.pid for process in found] == [sleeper.pid], "another start is another one"
        datadir.end_all(found)
    assert sleeper.wait(30) == -signal.SIGTERM
