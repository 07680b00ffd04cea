"""The files under deploy/ are what the code makes, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client.metrics import MetricWrapperBase

from ofevents import cli, telemetry
from ofevents.controller.render import Owner, Platform, Workload, children
from ofevents.controller.rights import RIGHTS
from ofevents.install import dashboard, files, monitoring, workload
from ofevents.install.access import allowed
from ofevents.install.objects import objects
from ofevents.install.settings import LABEL, NAMESPACE, Admission, Monitoring, Settings
from ofevents.local import folder

DEPLOY = Path(__file__).parents[2] / "deploy"
ALL = Settings(monitoring=Monitoring(True, True, True))


def test_the_generated_files_are_fresh() -> None:
    expected, there = files.files(), files.found(DEPLOY)
    assert sorted(there) == sorted(expected), "run `make manifests`"
    stale = [path for path, text in expected.items() if there[path] != text]
    assert stale == [], "run `make manifests`"


def test_every_kind_has_a_file() -> None:
    kinds = {each["kind"] for each in objects(ALL)}
    assert kinds == frozenset().union(*files.GROUPS.values())


def test_the_base_has_the_objects_of_the_default_settings() -> None:
    base = DEPLOY / "kustomize" / "base"
    [listed] = yaml.safe_load_all((base / "kustomization.yaml").read_text())
    found = [
        each
        for name in listed["resources"]
        for each in yaml.safe_load_all((base / name).read_text())
    ]
    assert found == _in_order(objects(Settings()), listed["resources"])


def _in_order(made: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    kinds = [files.GROUPS[name.removesuffix(".yaml")] for name in names]
    return [each for group in kinds for each in made if each["kind"] in group]


# -- metrics -----------------------------------------------------------------------------


def _series() -> set[str]:
    """Every name that a query can have."""
    names: set[str] = set()
    for each in vars(telemetry).values():
        if isinstance(each, MetricWrapperBase):
            [described] = each.describe()
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            names |= {described.name + end for end in ends.get(described.type, [""])}
    return names


def _asked(text: str) -> set[str]:
    return set(re.findall(r"\bofevents_\w+", text))


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    panels = [each for each in dashboard.dashboard()["panels"] if each["type"] != "row"]
    asked = {name for each in panels for query in each["targets"] for name in _asked(query["expr"])}
    assert asked - _series() == set()


def test_the_dashboard_shows_every_metric() -> None:
    shown = _asked(str(dashboard.dashboard()))
    roots = {re.sub("_(total|bucket|sum|count)$", "", each) for each in _series()}
    assert {root for root in roots if not any(name.startswith(root) for name in shown)} == set()


def test_the_alerts_ask_only_for_metrics_that_exist() -> None:
    asked = {name for alert in monitoring.ALERTS for name in _asked(alert.expression)}
    assert asked
    assert asked - _series() == set()


def test_prometheus_finds_what_the_controller_makes() -> None:
    [worker] = folder.read([DEPLOY / "samples" / "kafka-to-kafka"], []).workers
    owner = Owner("events.openfunction.io/v1alpha1", "EventSource", "default", "shop", "uid", 1)
    made = children(owner, [Workload(worker)], Platform(image="x")).manifests
    [template] = [each["spec"]["template"] for each in made if each["kind"] == "Deployment"]
    monitor = monitoring.pod_monitor(Settings())["spec"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
    assert {each["port"] for each in monitor["podMetricsEndpoints"]} <= ports


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        taken |= cells


# -- what a bank's operator looks for -------------------------------------------------------


def test_every_object_says_which_installation_it_is_of() -> None:
    for each in objects(ALL):
        assert each["metadata"]["labels"][LABEL] == NAMESPACE, each["kind"]


def test_the_pod_can_do_little() -> None:
    [deployment] = [each for each in objects(Settings()) if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"livenessProbe", "readinessProbe", "startupProbe", "resources"} <= container.keys()


def test_the_controller_of_some_namespaces_has_no_rights_elsewhere() -> None:
    made = objects(Settings(namespaces=("shop", "bank")))
    [cluster] = [each for each in made if each["kind"] == "ClusterRole"]
    everywhere = {name for rule in cluster["rules"] for name in rule["resources"]}
    assert everywhere == {name for right in allowed("cluster") for name in right.resources}
    assert "secrets" not in everywhere
    places = {each["metadata"]["namespace"] for each in made if each["kind"] == "Role"}
    assert places == {NAMESPACE, "shop", "bank"}
    [deployment] = [each for each in made if each["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[2:4] == ["--namespace=shop", "--namespace=bank"]


def test_the_controller_takes_the_arguments_that_it_is_started_with() -> None:
    verb, *options = workload.arguments(Settings(namespaces=("shop",)))
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    given = commands[verb].make_context(verb, options).params
    assert given["namespace"] == ["shop"]
    assert given["lease_namespace"] == NAMESPACE
    assert (given["host"], given["port"]) == ("0.0.0.0", 9090)


def test_no_right_is_a_wildcard_and_each_has_its_reason() -> None:
    for right in RIGHTS:
        assert right.reason
        assert "*" not in {*right.resources, *right.verbs, right.group}


def test_every_right_is_in_the_table_for_operators() -> None:
    text = (DEPLOY / "README.md").read_text()
    for right in RIGHTS:
        group = f" of {right.group}" if right.group else ""
        names = f" named {', '.join(right.names)}" if right.names else ""
        row = f"| {', '.join(right.resources)}{group}{names} | {', '.join(right.verbs)} | "
        assert f"{row}{right.reason} |" in text


@pytest.mark.parametrize("enabled", [True, False])
def test_admission_is_optional(enabled: bool) -> None:
    made = objects(Settings(admission=Admission(enabled=enabled)))
    assert enabled == any(each["kind"] == "ValidatingWebhookConfiguration" for each in made)
