"""Sabotages: small patches against the product, each breaking one promise on purpose.

A patch in `sabotages/` begins with two kinds of lines, the rest is a unified diff:

    Promise 1: an event is acknowledged before its subscriber has accepted it.
    Noticed by tests/unit/trigger/test_worker.py::test_bug_4_...

`test_sabotages` applies each to a copy of the tree and sees those tests turn red;
`tests/house/test_sabotages` sees that each still applies, so that who changes the code
learns of it at once. A new one is made from a changed tree with `git diff -U2`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = Path(__file__).parent / "sabotages"

_PROMISE: Final = re.compile(r"Promise (\d+): (.+)\.")
_NOTICED: Final = re.compile(r"Noticed by (\S+::\S+)")


class Stale(Exception):
    """A patch does not fit the code (any more), or its head says nothing."""


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One patch.

    Attributes:
        promise: the number of the promise that it breaks.
        breaks: how, in a sentence.
        tests: node ids of the tests that notice.
    """

    path: Path
    promise: int
    breaks: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises Stale when its head is not as the module says."""
        head = path.read_text().partition("diff --git ")[0].splitlines()
        promise = _PROMISE.fullmatch(head[0]) if head else None
        noticed = [_NOTICED.fullmatch(line) for line in head[1:]]
        if promise is None or not noticed or not all(noticed):
            raise Stale(f"{path.name} does not say which promise it breaks and who notices")
        return cls(path, int(promise[1]), promise[2], tuple(one[1] for one in noticed if one))

    def apply(self, tree: Path, *, check: bool = False) -> None:
        """Apply it to the files of a tree, or see that it could be; raises Stale."""
        # Where the tree lies inside another repository, git would look at that one's files.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
        done = subprocess.run(
            ["git", "apply", *(["--check"] if check else []), str(self.path)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Stale(
                f"{self.path.name} does not apply any more: make it anew for the changed code, "
                f"it has to break promise {self.promise} as before\n{done.stderr}"
            )


def all_sabotages() -> list[Sabotage]:
    """Every patch, by name."""
    return [Sabotage.read(path) for path in sorted(FOLDER.glob("*.patch"))]


def copy_tree(target: Path) -> None:
    """The files of the tree as they are now, what git ignores left out, with their times."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # deleted, and not yet so for git
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
