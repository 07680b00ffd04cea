"""The command line: exit codes, sentences instead of tracebacks, a quick start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from ofevents import cli
from ofevents.errors import ConfigError

SOURCE = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  webhook:
    orders: {host: 127.0.0.1, port: 0}
    refunds: {host: 127.0.0.1, port: 0}
"""
TRIGGER = """
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: checkout}
spec:
  eventBus: default
  inputs:
    orders: {eventSource: shop, event: orders}
  subscribers:
  - {name: audit, topic: audit}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(SOURCE)
    (tmp_path / "trigger.yaml").write_text(TRIGGER)
    return tmp_path


def ofevents(*arguments: object, stdin: str | None = None) -> tuple[int, str]:
    """Exit code and everything it printed."""
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments], input=stdin)
    if isinstance(result.exception, ConfigError):
        return 1, f"error: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def fails(*arguments: object, stdin: str | None = None) -> str:
    """What it says, with exit code 1."""
    code, text = ofevents(*arguments, stdin=stdin)
    assert code == 1, text
    return text


# -- the program ------------------------------------------------------------


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from ofevents.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_help_names_every_verb_and_the_exit_codes() -> None:
    code, text = ofevents("--help")
    assert code == 0
    for verb in ("run", "validate", "send", "tail", "topics", "source", "trigger", "crds"):
        assert f"│ {verb} " in text
    assert "130" in text


def test_help_loads_no_library_but_its_own() -> None:
    script = (
        "import sys, ofevents.cli; "
        "print([m for m in ('pydantic', 'nats', 'starlette', 'celpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_mistake_is_a_sentence_and_exit_code_1(folder: Path) -> None:
    done = program("tail", "-f", str(folder), "shop/orders")
    assert done.returncode == 1
    assert done.stderr.startswith("error: EventBus default of ")
    assert "Traceback" not in done.stderr


def test_a_wrong_option_is_exit_code_2() -> None:
    code, text = ofevents("run", "--nope")
    assert code == 2
    assert "--nope" in text


# -- resolve ----------------------------------------------------------------


def specs(*arguments: object) -> list[dict[str, Any]]:
    code, text = ofevents("resolve", *arguments)
    assert code == 0, text
    return list(yaml.safe_load_all(text))


def test_resolve_writes_a_spec_for_each_worker(folder: Path) -> None:
    found = specs("-f", folder, "--bus", "nats://127.0.0.1:4222")
    assert [(one["kind"], one["name"], one.get("entry")) for one in found] == [
        ("EventSource", "shop", "orders"),
        ("EventSource", "shop", "refunds"),
        ("Trigger", "checkout", None),
    ]
    assert all(one["bus"]["options"]["url"] == "nats://127.0.0.1:4222" for one in found)
    assert all("embedded" not in one["bus"]["options"] for one in found)


@pytest.mark.parametrize(
    ("name", "count"), [("shop/orders", 1), ("shop", 2), ("checkout", 1), ("default/checkout", 1)]
)
def test_resolve_selects_by_name(folder: Path, name: str, count: int) -> None:
    assert len(specs("-f", folder, "--bus", "nats://h:1", "--name", name)) == count


def test_resolve_knows_the_nearest_name(folder: Path) -> None:
    text = fails("resolve", "-f", folder, "--bus", "nats://h:1", "--name", "chckot")
    assert "did you mean checkout?" in text


def test_resolve_of_an_embedded_bus_that_does_not_run(folder: Path) -> None:
    assert "start `ofevents run -f" in fails("resolve", "-f", folder)


def test_resolved_files_are_for_their_owner_and_can_be_read_back(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "specs"
    for output in ("text", "json"):
        code, text = ofevents(
            "resolve", "-f", folder, "--bus", "nats://h:1", "--write", target, "-o", output
        )
        assert code == 0, text
    names = sorted(path.name for path in target.iterdir())
    assert "trigger.default.checkout.yaml" in names
    assert "eventsource.default.shop.orders.json" in names
    assert all(path.stat().st_mode & 0o077 == 0 for path in target.iterdir())
    json.loads((target / "trigger.default.checkout.json").read_text())


# -- source and trigger -----------------------------------------------------


def test_a_spec_of_the_other_kind_names_the_verb(folder: Path, tmp_path: Path) -> None:
    ofevents("resolve", "-f", folder, "--bus", "nats://h:1", "--write", tmp_path / "specs")
    text = fails("trigger", "-f", tmp_path / "specs" / "eventsource.default.shop.orders.yaml")
    assert "expected kind Trigger, found 'EventSource'; run it with `ofevents source" in text


def test_a_resource_is_no_spec(folder: Path) -> None:
    text = fails("trigger", "-f", folder / "trigger.yaml")
    assert "ofevents resolve" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Trigger\nversion: 2\n", "has version 2, this ofevents reads version 1"),
        ("kind: Trigger\nversion: 1\n", "another release"),
        ("[1]", "expected the resolved spec"),
        ("a: [", "neither YAML nor JSON"),
        ("kind: Trigge\n", "expected kind Trigger, found 'Trigge'"),
    ],
)
def test_what_is_no_spec_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert said in fails("trigger", "-f", path)
    assert "cannot be read" in fails("trigger", "-f", tmp_path / "none.yaml")


# -- send -------------------------------------------------------------------


def test_send_checks_every_event_before_the_first_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}'
    path.write_text(f'{good}\n\n{{"id": "2"}}\nnot json\n')
    text = fails("send", path, "--to", "shop/orders", "--bus", "nats://127.0.0.1:1")
    assert "line 3" in text
    assert "line 4" in text
    assert "line 1:" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-d", "1", "-a", "no"], "expected name=value"),
        (["-d", "1", "-a", "Bad-Name=1"], "Bad-Name"),
        (["--data-file", "/no/such/file"], "/no/such/file"),
        (["-d", "1", "--bus", "localhost"], "is no address such as nats://"),
    ],
)
def test_send_says_what_is_wrong(folder: Path, arguments: list[str], said: str) -> None:
    assert said in fails("send", "--to", "shop/orders", "-f", folder, *arguments)


def test_send_takes_a_file_or_data_not_both() -> None:
    assert ofevents("send", "x.jsonl", "--to", "t", "-d", "1")[0] == 2


def test_send_to_a_webhook_that_is_not_there() -> None:
    text = fails("send", "--to", "http://127.0.0.1:1/x", "-d", "{}")
    assert "127.0.0.1:1" in text


# -- tail -------------------------------------------------------------------


def test_a_filter_with_a_mistake_has_a_caret() -> None:
    text = fails("tail", "shop/orders", "--filter", "evnt.data.x > 1", "--bus", "nats://h:1")
    assert "event" in text
    assert "^" in text


def test_since_is_a_duration(folder: Path) -> None:
    assert "500ms" in fails("tail", "t", "--since", "yesterday", "--bus", "nats://h:1")


def test_of_several_buses_one_has_to_be_named(folder: Path) -> None:
    buses = "".join(
        "---\napiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\n"
        f"metadata: {{name: {name}}}\nspec: {{jetstream: {{url: 'nats://127.0.0.1:1'}}}}\n"
        for name in ("one", "two")
    )
    (folder / "bus.yaml").write_text(buses)
    (folder / "shop.yaml").write_text(SOURCE.replace("default", "one"))
    (folder / "trigger.yaml").write_text(TRIGGER.replace("default", "two"))
    text = fails("topics", "-f", folder)
    assert "choose one with --bus: default/one, default/two" in text
    assert "does not answer" in fails("topics", "-f", folder, "--bus", "two")


def test_without_a_bus_it_says_how_to_name_one(tmp_path: Path) -> None:
    text = fails("topics", "-f", tmp_path)
    assert "--bus nats://HOST:4222" in text


def test_no_verb_has_an_option_twice() -> None:
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        options = [opt for param in command.params for opt in getattr(param, "opts", [])]
        assert sorted(set(options)) == sorted(options), name
