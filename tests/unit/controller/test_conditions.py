"""Conditions of facts: what wins, what is joined, and that nothing is written for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.controller.pods import WorkerState, judge
from ofevents.controller.status import Facts, conditions, merge

RUNS = WorkerState("kafka/orders", "ready", "Running")
STARTS = WorkerState("cron/tick", "starting", "Starting", "its Pod is not ready yet")
UPDATES = WorkerState("trigger", "ready", "Updating", "some of its Pods are not ready yet")
STALLS = WorkerState("mqtt/x", "stalled", "Disconnected", "no broker")


@pytest.mark.parametrize(
    ("facts", "ready", "stalled"),
    [
        (Facts(workers=[RUNS]), ("True", "Running", ""), "None"),
        (
            Facts(workers=[RUNS, STARTS]),
            ("False", "Starting", "cron/tick: its Pod is not ready yet"),
            "None",
        ),
        (
            Facts(workers=[RUNS, STALLS]),
            ("False", "Disconnected", "mqtt/x: no broker"),
            "Disconnected",
        ),
        (
            Facts(trouble=[("Invalid", "wrong")], workers=[STALLS]),
            ("False", "Invalid", "wrong; no broker"),
            "Invalid",
        ),
        (
            Facts(workers=[RUNS], suspended=True),
            ("True", "Suspended", "spec.suspend is true"),
            "None",
        ),
        (
            Facts(workers=[UPDATES], suspended=True),
            ("True", "Updating", "some of its Pods are not ready yet"),
            "None",
        ),
        (
            Facts(idle=("True", "NothingToRun", "no source")),
            ("True", "NothingToRun", "no source"),
            "None",
        ),
    ],
)
def test_what_is_ready_and_what_is_stalled(
    facts: Facts, ready: tuple[str, str, str], stalled: str
) -> None:
    first, second, _ = conditions(facts)
    assert (first.type, first.status, first.reason, first.message) == ("Ready", *ready)
    assert (second.type, second.reason) == ("Stalled", stalled)


def test_a_status_is_the_same_until_something_changes() -> None:
    first, changed = merge(None, Facts(workers=[STARTS]), 1, 1000.0)
    assert [one.type for one in changed] == ["Ready", "Stalled", "Warning"]
    assert merge(first, Facts(workers=[STARTS]), 1, 2000.0) == (first, [])
    second, changed = merge(first, Facts(workers=[RUNS]), 2, 3000.0)
    assert [(one.type, one.status) for one in changed] == [("Ready", "True")]
    times = [each["lastTransitionTime"] for each in second["conditions"]]
    assert times == ["1970-01-01T00:50:00Z", "1970-01-01T00:16:40Z", "1970-01-01T00:16:40Z"]
    assert {each["observedGeneration"] for each in second["conditions"]} == {2}


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        (
            {"replicas": 2},
            {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
            ("ready", "Running"),
        ),
        (
            {"replicas": 1},
            {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1},
            ("ready", "Updating"),  # it is the Pod of before that is available
        ),
        ({"replicas": 0}, {}, ("ready", "ScaledToZero")),
        ({}, {}, ("starting", "Starting")),
        ({"replicas": 2}, {"updatedReplicas": 1, "availableReplicas": 2}, ("ready", "Updating")),
        (
            {"replicas": 2},
            {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1},
            ("ready", "Scaling"),
        ),
        (
            {"replicas": 1},
            {"updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 2},
            ("starting", "Starting"),  # of the generation before
        ),
    ],
)
def test_a_worker_by_its_deployment(
    spec: dict[str, int], status: dict[str, int], expected: tuple[str, str]
) -> None:
    status = {"observedGeneration": 3, **status}
    deployment = {"metadata": {"name": "x", "generation": 3}, "spec": spec, "status": status}
    found = judge("x", deployment, [], {})
    assert (found.state, found.reason) == expected


def test_a_new_pod_that_does_not_get_ready_is_told_while_the_old_one_works() -> None:
    status = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    deployment = {"metadata": {"name": "x", "generation": 3}, "spec": {}, "status": status}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pod = {"metadata": {"name": "new"}, "status": {"containerStatuses": [{"state": state}]}}
    found = judge("x", deployment, [pod], {})
    assert (found.state, found.reason) == ("stalled", "CrashLoopBackOff")
    assert found.message == "back-off"


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (
            {"reason": "Error", "exitCode": 1, "message": '{"event": "started"}\nerror: no disk\n'},
            "it ended (exit code 1): error: no disk",
        ),
        ({"reason": "OOMKilled", "exitCode": 137}, "it ended (OOMKilled, exit code 137)"),
    ],
)
def test_a_worker_that_ends_again_and_again_says_why(ended: Any, message: str) -> None:
    """The kubelet's own message is about how long it waits."""
    each = {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
        "lastState": {"terminated": ended},
    }
    pod = {"metadata": {"name": "new"}, "status": {"containerStatuses": [each]}}
    deployment = {"metadata": {"name": "x", "generation": 3}, "spec": {}, "status": {}}
    assert judge("x", deployment, [pod], {}).message == message
