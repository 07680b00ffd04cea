"""Every promise has a sabotage, and each still fits the code and its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.faults.sabotage import FOLDER, ROOT, Sabotage, Stale, all_sabotages

PROMISES = range(1, 12)
PATHS = sorted(FOLDER.glob("*.patch"))


def test_every_promise_has_a_sabotage() -> None:
    assert {one.promise for one in all_sabotages()} == set(PROMISES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_applies_and_its_tests_are_there(path: Path) -> None:
    sabotage = Sabotage.read(path)
    sabotage.apply(ROOT, check=True)
    changed = re.findall(r"^\+\+\+ b/(\S+)$", path.read_text(), re.M)
    assert changed
    assert all(name.startswith(("ofevents/", "adapters/")) for name in changed)
    for test in sabotage.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(), test


def test_a_patch_that_does_not_apply_says_so(tmp_path: Path) -> None:
    (tmp_path / "ofevents").mkdir()
    with pytest.raises(Stale, match="does not apply any more"):
        Sabotage.read(PATHS[0]).apply(tmp_path, check=True)
