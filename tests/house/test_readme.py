"""The README's generated parts agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from ofevents import telemetry

README = (Path(__file__).parents[2] / "README.md").read_text()


def _metrics() -> dict[str, str]:
    found = [m for m in vars(telemetry).values() if isinstance(m, MetricWrapperBase)]
    return {m._name: m._documentation for m in found}


def test_every_metric_has_its_sentence_in_the_readme() -> None:
    table = dict(re.findall(r"^\| `(ofevents_\w+)` \| (.+?) \|$", README, re.M))
    assert table == _metrics()


def test_every_make_verb_is_in_the_readme() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z]+):.*## ", makefile, re.M))
    missing = sorted(v for v in verbs if f"make {v}" not in README)
    assert missing == []


def test_links_to_files_are_alive() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []
