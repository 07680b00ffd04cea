"""A program is built once, however many processes want it, and nobody finds half of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GO = """\
#!/bin/sh
echo "$1" >> "$ASKED"
if [ "$1" = list ]; then echo "$SOURCE"; exit; fi
while [ "$1" != -o ]; do shift; done
printf half > "$2"; sleep 0.5; printf whole > "$2"
"""
"""A compiler that takes its time; what it is asked for is a line in a file."""
GET = """
from pathlib import Path
from tests.servers.go_build import Build

build = Build("it", "1", Path("."), {"one": ".", "two": "."}, "0 s", files=("crds", "it", "here"))
folder = build.get()
assert (folder / "one").read_text() == (folder / "two").read_text() == "whole"
assert (folder / "crds" / "it.yaml").exists()
"""


@pytest.mark.timeout(60)
def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO)
    go.chmod(0o755)
    (tmp_path / "source" / "here").mkdir(parents=True)
    (tmp_path / "source" / "here" / "it.yaml").touch()
    environment = {
        **os.environ,
        "PATH": f"{go.parent}:{os.environ['PATH']}",
        "ASKED": str(tmp_path / "asked"),
        "SOURCE": str(tmp_path / "source"),
        "OFEVENTS_SERVERS": str(tmp_path / "cache"),
    }
    command, root = [sys.executable, "-c", GET], Path(__file__).parents[3]
    several = [subprocess.Popen(command, env=environment, cwd=root) for _ in range(3)]
    assert [each.wait() for each in several] == [0, 0, 0]
    assert (tmp_path / "asked").read_text().split() == ["build", "build", "list"]
