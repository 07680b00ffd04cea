"""The Helm chart and the kustomize base, rendered by the real tools, have the same objects."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ofevents.install.kinds import title
from ofevents.install.objects import objects
from ofevents.install.settings import Admission, Monitoring, Settings
from tests.servers import ServerMissing, helm

pytestmark = [pytest.mark.server("helm"), pytest.mark.timeout(60)]
DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "ofevents"
EVERYTHING = Settings(
    namespace="events",
    image="registry.example/ofevents:1",
    replicas=3,
    namespaces=("shop", "bank"),
    resources={"requests": {"memory": "1Gi"}},
    admission=Admission(failure_policy="Fail"),
    monitoring=Monitoring(True, True, True),
)
VALUES = {
    "namespace": "events",
    "image": "registry.example/ofevents:1",
    "replicas": 3,
    "namespaces": ["shop", "bank"],
    # null takes away what values.yaml has.
    "resources": {"requests": {"memory": "1Gi", "cpu": None}, "limits": None},
    "admission": {"failurePolicy": "Fail"},
    "monitoring": {"prometheusRule": True, "serviceMonitor": True, "dashboard": True},
}
"""What `EVERYTHING` is in the chart's words."""


def made(settings: Settings) -> dict[str, Any]:
    """Each object by its title, as JSON has it."""
    return {title(each): each for each in json.loads(json.dumps(objects(settings)))}


def template(home: Path, *arguments: str | Path) -> dict[str, Any]:
    """What helm renders, likewise."""
    text = helm.run("template", "ofevents", CHART, *arguments, home=home)
    return {title(each): each for each in yaml.safe_load_all(text) if each}


def test_the_chart_renders_what_is_installed(tmp_path: Path) -> None:
    assert template(tmp_path) == made(Settings())


def test_every_value_of_the_chart_does_what_the_option_does(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    assert template(tmp_path, "--values", values) == made(EVERYTHING)


def test_the_chart_is_in_the_namespace_of_its_release(tmp_path: Path) -> None:
    expected = made(Settings(namespace="events"))
    del expected["Namespace events"]  # helm makes it: --create-namespace
    assert template(tmp_path, "--namespace", "events") == expected


def test_what_is_switched_off_is_not_rendered(tmp_path: Path) -> None:
    off = template(tmp_path, "--set", "crds=false,admission.enabled=false")
    expected = made(Settings(admission=Admission(enabled=False)))
    assert off == {name: each for name, each in expected.items() if not name.startswith("Custom")}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("replica=3", "replica"),
        ("admission.failurePolicy=Maybe", "failurePolicy"),
        ("namespaces={Shop}", "namespaces"),
        ("replicas=0", "replicas"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        template(tmp_path, "--set", value)


def test_the_chart_has_no_mistakes_that_helm_finds(tmp_path: Path) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", CHART, home=tmp_path)


def test_kustomize_renders_what_is_installed() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise ServerMissing("kustomize is in kubectl: apt-get install kubernetes-client")
    done = subprocess.run(
        [kubectl, "kustomize", DEPLOY / "kustomize" / "base"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = {title(each): each for each in yaml.safe_load_all(done.stdout)}
    assert found == made(Settings())
