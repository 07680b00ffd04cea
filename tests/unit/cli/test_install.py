"""`ofevents install` without a cluster: what it would apply, and options that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ofevents import cli
from ofevents.errors import ConfigError
from ofevents.install.objects import objects
from ofevents.install.settings import Admission, Monitoring, Settings
from ofevents.install.survey import rollout


def ofevents(*arguments: str) -> tuple[int, str]:
    """Exit code and everything it printed."""
    result = CliRunner().invoke(cli.app, arguments)
    if isinstance(result.exception, ConfigError):
        return 1, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_dry_run_prints_yaml_for_kubectl() -> None:
    code, text = ofevents("install", "--dry-run", "--image", "registry.example/ofevents:1")
    assert code == 0
    assert list(yaml.safe_load_all(text)) == objects(Settings(image="registry.example/ofevents:1"))


def test_every_option_is_a_setting() -> None:
    options = ["--watch-namespace=a", "--watch-namespace=b", "--watch-namespace=a", "--replicas=3"]
    more = ["--failure-policy=Fail", "--prometheus-rule", "--service-monitor", "--dashboard"]
    code, text = ofevents("install", "--dry-run", "-o", "json", "-n", "events", *options, *more)
    assert code == 0
    chosen = Settings(
        namespace="events",
        replicas=3,
        namespaces=("a", "b"),
        admission=Admission(failure_policy="Fail"),
        monitoring=Monitoring(True, True, True),
    )
    assert json.loads(text)["items"] == json.loads(json.dumps(objects(chosen)))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--namespace=Shop", "'Shop' cannot be a namespace"),
        ("--watch-namespace=a.b", "'a.b' cannot be a namespace"),
        ("--image=", "is no image"),
        ("--replicas=0", "expected at least 1"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(option: str, said: str) -> None:
    code, text = ofevents("install", "--dry-run", option)
    assert code == 1
    assert said in text


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_wrong_duration_is_a_wrong_option(verb: str) -> None:
    code, text = ofevents(verb, "--timeout", "soon")
    assert code == 2
    assert "such as" in text


@pytest.mark.parametrize("verb", ["install", "uninstall", "status"])
def test_a_kubeconfig_that_is_not_there_is_named(verb: str, tmp_path: Path) -> None:
    code, text = ofevents(verb, "--kubeconfig", str(tmp_path / "none"))
    assert code == 1
    assert f"there is no kubeconfig {tmp_path / 'none'}" in text


def test_a_kubeconfig_of_the_environment_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(none))
    code, text = ofevents("status")
    assert code == 1
    assert text.rstrip().endswith(f"(--kubeconfig, KUBECONFIG): no such file: {none}")
    (tmp_path / "some").write_text("apiVersion: v1\nkind: Config\ncurrent-context: bank\n")
    monkeypatch.setenv("KUBECONFIG", f"{none}:{tmp_path / 'some'}")
    code, text = ofevents("status")
    assert code == 1
    assert "no such file" not in text, "one of several is enough, as for kubectl"


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [],
                "users": [],
                "contexts": [],
                "current-context": "",
            }
        )
    )
    code, text = ofevents("status", "--kubeconfig", str(file), "--context", "bank")
    assert code == 1
    assert "bank" in text


@pytest.mark.parametrize(
    ("replicas", "updated", "available", "up"),
    [(2, 2, 2, 2), (2, 2, 1, 1), (3, 2, 2, 1), (3, 1, 2, 0), (2, 0, 2, 0)],
)
def test_what_is_up_with_the_version_before_is_not_counted(
    replicas: int, updated: int, available: int, up: int
) -> None:
    counts = {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
    status = {"observedGeneration": 2, **counts}
    found = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert rollout(found) == (up, 2)
