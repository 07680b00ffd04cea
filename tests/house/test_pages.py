"""What the pages show is true: YAML that validates, a section for each source and each sink."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

import pytest
import typer
import yaml
from typer.testing import CliRunner

from ofevents.api.eventsource import CUSTOM, SPECS
from ofevents.api.sink import SINKS
from ofevents.cli.validate import validate

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "adapters/README.md")
ADAPTERS: Final = (ROOT / "adapters/README.md").read_text()
SOURCES: Final = sorted(set(SPECS) - {CUSTOM})
FACTS: Final = (
    "Guarantee and order.",
    "At a crash.",
    "Fields.",
    "Scales by",
    "OpenFunction's names.",
    "Sample.",
)
OWN: Final = "source: queue"
"""In the block that needs the package of "your own source", which its own test runs."""


def _blocks(page: str) -> list[str]:
    found = re.findall(r"^ *```yaml\n(.*?)^ *```", (ROOT / page).read_text(), re.M | re.S)
    return [textwrap.dedent(block) for block in found]


def _document(block: str) -> str:
    """The block, or where it is a part of a spec the EventSource that has it."""
    part = yaml.safe_load(block) if "apiVersion" not in block else None
    if part is None:
        return block
    spec = {"eventBus": "default"} | part
    if "sink" in part:
        spec["cron"] = {"tick": {"schedule": "@hourly"}}
    head = {"apiVersion": "events.openfunction.io/v1alpha1", "kind": "EventSource"}
    return yaml.safe_dump(head | {"metadata": {"name": "shop"}, "spec": spec})


SHOWN: Final = [(page, block) for page in PAGES for block in _blocks(page) if OWN not in block]


def _check(text: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(validate)
    done = CliRunner().invoke(app, ["-"], input=text)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("page", "block"), SHOWN, ids=[f"{page}-{at}" for at, (page, _) in enumerate(SHOWN)]
)
def test_yaml_is_valid(page: str, block: str) -> None:
    code, output = _check(_document(block))
    assert code == 0 and "all good" in output, f"{page}:\n{block}\n{output}"


def test_each_page_with_yaml_is_looked_at() -> None:
    """A block that is written otherwise than the others would go unseen."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        assert len(re.findall(r"```ya?ml", text)) == len(_blocks(page)), page


def _section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^###? )", ADAPTERS, re.M | re.S)
    assert found, f"adapters/README.md has no section on {name}"
    return found[1]


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_has_its_section(source: str) -> None:
    section = _section(source)
    assert [fact for fact in FACTS if f"- **{fact}**" not in section] == []
    (block,) = re.findall(r"```yaml\n(.*?)```", section, re.S)
    assert list(yaml.safe_load(block)["spec"]) == ["eventBus", source]
    samples = re.findall(r"\]\(\.\./(deploy/samples/[^)]+)\)", section)
    assert samples
    for sample in samples:
        documents = yaml.safe_load_all((ROOT / sample).read_text())
        assert any(source in one["spec"] for one in documents), f"{sample} has no {source}"


@pytest.mark.parametrize("source", SOURCES)
def test_fields_that_a_section_names_are_there(source: str) -> None:
    """In camel case, as the rest of a section speaks of values, too."""
    named = re.findall(r"`([a-z]+[A-Z]\w*)`", _section(source))
    known = set(re.findall(r"\w+", (ROOT / "crds/eventsource.yaml").read_text()))
    elsewhere = {"natsServerMonitoringEndpoint", "desiredReplicas"}  # KEDA's
    assert [name for name in named if name not in known | elsewhere] == []


@pytest.mark.parametrize("sink", sorted(SINKS))
def test_each_sink_has_its_section(sink: str) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", _section(f"An? {sink} sink"), re.S)
    assert list(yaml.safe_load(block)["sink"]) == [sink]


def test_links_of_the_adapters_page_are_alive() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", ADAPTERS)
    assert links
    for file, anchor in links:
        target = ROOT / "adapters" / file if file else ROOT / "adapters/README.md"
        assert target.exists(), file
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert anchor in [one.lower().replace(" ", "-") for one in headings], anchor
