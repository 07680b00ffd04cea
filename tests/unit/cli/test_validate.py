"""`ofevents validate` and `ofevents crds` as a person and a program meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from ofevents.cli.crds import crds
from ofevents.cli.validate import validate

GOOD = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  webhook: {orders: {}}
"""
BAD = """\
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  eventBus: default
  inputs: {orders: {eventSource: shop, event: orders}}
  subscribers:
  - {name: "a", topic: "[bold]x", condition: ordrs}
  - {name: "b", topc: y}
"""
DANGLING = GOOD.replace("eventBus: default", "eventBus: other")

app = typer.Typer()
app.command()(validate)
app.command()(crds)


def run(*arguments: str | Path, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(GOOD)
    return tmp_path


def test_good_files_are_0(folder: Path) -> None:
    code, text = run("validate", folder)
    assert (code, text) == (0, "all good in 1 file: 1 worker would run\n")


def test_errors_are_1_with_place_sentence_and_caret(folder: Path) -> None:
    (folder / "b.yaml").write_text(BAD.replace('  - {name: "b", topc: y}\n', ""))
    code, text = run("validate", folder)
    assert code == 1
    assert text.splitlines() == [
        f"{folder}/b.yaml:8:46: error: Trigger default/t spec.subscribers[0].condition",
        "  undeclared variable ordrs, did you mean orders?",
        "    ordrs",
        "    ^",
        "1 error in 2 files",
    ]


def test_all_errors_are_told_for_programs(folder: Path) -> None:
    (folder / "b.yaml").write_text(BAD)
    (folder / "c.yaml").write_text("a: [\n")
    code, text = run("validate", folder, "-o", "json")
    found = json.loads(text)
    assert code == 1 and found["valid"] is False and found["errors"] == 3
    places = [(Path(each["file"]).name, each["line"]) for each in found["problems"]]
    assert places == [("b.yaml", 8), ("b.yaml", 9), ("c.yaml", 2)]
    assert found["problems"][1]["nearest"] == "topic"
    assert found["problems"][1]["path"] == "spec.subscribers[1].topc"


def test_warnings_alone_are_0_unless_strict(folder: Path) -> None:
    (folder / "a.yaml").write_text(DANGLING)
    code, text = run("validate", folder)
    assert code == 0
    assert "warning: EventSource default/shop spec.eventBus" in text
    assert "It does not run until that is there." in text
    assert text.endswith("1 warning in 1 file: 0 workers would run, 1 would not\n")
    assert run("validate", folder, "--strict")[0] == 1


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    code, text = run("validate", tmp_path / "no.yaml")
    assert code == 1
    assert "there is no such file or folder" in text


def test_stdin_is_read() -> None:
    code, text = run("validate", "-", stdin=BAD)
    assert code == 1
    assert text.startswith("-:8:")


def test_square_brackets_are_not_markup(folder: Path) -> None:
    (folder / "a.yaml").write_text(GOOD.replace("eventBus: default", "'[red]x': 1"))
    code, text = run("validate", folder)
    assert code == 1 and "unknown field [red]x" in text


KINDS = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  kafka:
    k: {brokers: "a:1", config: {group.id: mine}}
  custom:
    m: {source: kafak}
"""
JOIN = """\
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  eventBus: default
  inputs:
    k: {eventSource: shop, event: k}
    m: {eventSource: shop, event: m, joinBy: event.data.id}
  subscribers:
  - {name: a, topic: x, condition: k && m}
"""


def test_what_only_a_worker_knows_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(KINDS)
    (tmp_path / "b.yaml").write_text(JOIN)
    code, text = run("validate", tmp_path, "-o", "json")
    assert code == 1
    found = {each["path"]: each for each in json.loads(text)["problems"]}
    kafka = found['spec.kafka.k.config["group.id"]']
    assert (kafka["severity"], kafka["line"]) == ("error", 7)
    assert "group.id cannot be set; use consumerGroup" in kafka["message"]
    missing = found["spec.custom.m"]
    assert (missing["severity"], missing["blocks"]) == ("warning", True)
    assert "no source 'kafak'" in missing["message"]
    assert "did you mean kafka?" in missing["message"]
    joined = found["spec.inputs.k"]
    assert (joined["severity"], joined["line"]) == ("error", 7)
    assert "they never meet" in joined["message"]


def test_crds_are_printed_for_kubectl_and_for_programs() -> None:
    code, text = run("crds")
    kinds = [each["spec"]["names"]["kind"] for each in yaml.safe_load_all(text)]
    assert code == 0
    assert kinds == ["EventBus", "ClusterEventBus", "EventSource", "Trigger"]
    listed = json.loads(run("crds", "-o", "json")[1])
    assert listed["kind"] == "List" and len(listed["items"]) == 4


def test_crds_are_written_one_file_a_kind(tmp_path: Path) -> None:
    code, text = run("crds", "--write", tmp_path / "new")
    assert code == 0 and "trigger.yaml" in text
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == [
        "clustereventbus.yaml",
        "eventbus.yaml",
        "eventsource.yaml",
        "trigger.yaml",
    ]


SINKS = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  sink:
    nats: {url: "nats://n:4222", subject: "paid.*"}
  webhook: {orders: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  eventBus: default
  inputs: {orders: {eventSource: shop, event: orders}}
  subscribers:
  - {name: both, topic: x, sink: {uri: "http://f/"}}
  - name: out
    topic: y
    sink:
      kafka: {brokers: "k:9092", topic: out, config: {acks: "1"}}
    deadLetterSink:
      kafka: {brokers: "k:9092", topic: dead, saslUsername: me}
"""


def test_what_only_a_sink_knows_is_found_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "sinks.yaml").write_text(SINKS)
    code, text = run("validate", "-o", "json", tmp_path)
    assert code == 1
    found = {each["path"]: (each["line"], each["message"]) for each in json.loads(text)["problems"]}
    assert found == {
        "spec.sink.nats.subject": (7, "paid.* has wildcards; events are sent to one subject"),
        "spec.subscribers[1].sink.kafka.config.acks": (
            21,
            "acks cannot be set; use nothing: every replica in sync confirms an event",
        ),
        "spec.subscribers[1].deadLetterSink.kafka": (
            23,
            "a login needs saslUsername and saslPassword",
        ),
    }


def test_what_has_no_resource_stands_on_the_line_of_its_place(tmp_path: Path) -> None:
    code, output = run("validate", tmp_path / "none.yaml")
    assert code == 1
    assert f"{tmp_path / 'none.yaml'}: error: there is no such file or folder\n" in output
