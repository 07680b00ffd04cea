"""The suite notices: each sabotage, applied to a copy of the tree, turns it red.

A copy has the product and the tests as they are in the working tree; the tests that the
patch names run in it, with this interpreter. `control` runs what all chosen patches name
together in a copy without any, and has to be green.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.faults.sabotage import ROOT, Sabotage, all_sabotages, copy_tree

pytestmark = pytest.mark.timeout(1300)

SABOTAGES: Final = all_sabotages()
LONGEST: Final = 300.0
"""Seconds for the tests of one sabotage: each turns red in a fraction of it."""
LONGEST_CONTROL: Final = 900.0
"""Seconds for the tests of all of them."""

_FAILED: Final = re.compile(r"^FAILED (.+?)(?: - (.*))?$", re.M)
_NO_VERDICT: Final = ("NameError", "ImportError", "SyntaxError", "AttributeError", "TypeError")
"""Errors of a patch that is wrong in itself: no test has noticed what it was to break."""
_TIMEOUT: Final = "Failed: Timeout"
"""pytest-timeout's: a test that hangs has judged nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run of pytest in a copy.

    Attributes:
        failed: node id -> the short reason, of the tests that failed.
    """

    code: int
    seconds: float
    failed: dict[str, str]
    output: str

    @property
    def skipped(self) -> bool:
        """Whether no test of it was run: what it needs cannot be had."""
        return self.code == 0 and not re.search(r"\d passed", self.output)


def environment(copy: Path) -> dict[str, str]:
    """In it, this process's children import the copy, console scripts too."""
    # The installed package is editable: its path comes after PYTHONPATH.
    return {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'adapters'}", "COLUMNS": "400"}


def run(copy: Path, tests: list[str], within: float, config: pytest.Config) -> Outcome:
    """Run these tests of the copy until one fails."""
    required = ["--require-servers"] if config.getoption("--require-servers") else []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-rfEs", "--color=no", "--tb=short",
         "-p", "no:cacheprovider", *required, *tests],
        cwd=copy, env=environment(copy), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=within)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the servers of its tests, too
            process.wait()
    return Outcome(
        process.returncode, time.monotonic() - began, dict(_FAILED.findall(output)), output
    )


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A copy in which every test of the chosen sabotages is green.

    It is what they are applied to copies of: its bytecode spares each of them some time.
    """
    copy = tmp_path_factory.mktemp("control")
    copy_tree(copy)
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [spec.params["sabotage"] for spec in specs if spec and "sabotage" in spec.params]
    tests = sorted({test for one in chosen for test in one.tests})
    outcome = run(copy, tests, LONGEST_CONTROL, request.config)
    assert outcome.code == 0, f"without any sabotage:\n{outcome.output}"
    return copy


def test_the_copy_is_what_runs(tmp_path: Path) -> None:
    """In children and console scripts, too, whatever is installed."""
    copy = tmp_path / "copy"
    copy_tree(copy)
    mark = uuid.uuid4().hex
    (copy / "ofevents/cli/__init__.py").write_text(f"def main() -> None:\n    print('{mark}')\n")
    child = (
        "import ofevents, ofevents_adapters; print(ofevents.__file__, ofevents_adapters.__file__)"
    )
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )

    def printed(*command: str | Path) -> str:
        # Not in the copy's folder: its place on the path must not be what decides.
        return subprocess.run(
            command, cwd=tmp_path, env=environment(copy), check=True, capture_output=True, text=True
        ).stdout.strip()

    own = f"{copy}/ofevents/__init__.py {copy}/adapters/ofevents_adapters/__init__.py"
    assert printed(sys.executable, "-c", child) == own
    assert printed(sys.executable, "-c", parent) == own
    assert printed(Path(sys.executable).parent / "ofevents") == mark
    assert str(ROOT) not in own


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda one: one.path.stem)
def test_a_sabotage_turns_the_suite_red(
    sabotage: Sabotage,
    control: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(control, copy)
    sabotage.apply(copy)
    outcome = run(copy, list(sabotage.tests), LONGEST, pytestconfig)
    if outcome.skipped:
        pytest.skip(outcome.output[-1000:])
    assert outcome.code == 1, (
        f"nobody noticed that {sabotage.breaks} (promise {sabotage.promise}):\n{outcome.output}"
    )
    assert outcome.failed, f"no test failed, but something else:\n{outcome.output}"
    [(noticed, reason)] = outcome.failed.items()
    assert not reason.startswith((*_NO_VERDICT, _TIMEOUT)), outcome.output
    with capsys.disabled():
        sys.stdout.write(
            f"\n{sabotage.path.stem}: {noticed} in {outcome.seconds:.1f} s: {reason}\n"
        )
    shutil.rmtree(copy)  # pytest would keep dozens of them
