"""What the process runner must be able to do, before anything of ours is tried on it."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.e2e.processes import get
from tests.e2e.runner.web import DEPLOYMENTS, PORT, WELL, deployment, gone, pods, put, rolled
from tests.servers import until
from tests.servers.kube_runner import KubeRunner

pytestmark = [
    pytest.mark.server("kube"),
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_pods_run_with_addresses_files_and_variables(runner: KubeRunner) -> None:
    await runner.call("POST", DEPLOYMENTS, deployment("web", replicas=2))

    async def waits() -> bool:
        found = await pods(runner, "web")
        states = [one["status"].get("containerStatuses", [{}])[0].get("state") for one in found]
        messages = [one["waiting"]["message"] for one in states if one and "waiting" in one]
        return len(messages) == 2 and all("not found" in each for each in messages)

    await runner.until(waits, "it says what is missing", 60)
    await put(runner, "configmaps", "settings", WELL)
    await put(runner, "secrets", "login", {"token": "first"})
    await rolled(runner, "web")

    found = runner.pods("default", app="web")
    assert len({pod.address for pod in found.values()}) == 2
    for name, pod in found.items():
        base = f"http://{pod.address}:{PORT}"
        assert await get(f"{base}/env") == (200, f"first {name}")
        assert await get(f"{base}/login/token") == (200, "first")

    # A change of a Secret is in the files of the Pods that run, but not in their environment.
    await put(runner, "secrets", "login", {"token": "second"})
    (name, pod), *_ = found.items()
    base, pid = f"http://{pod.address}:{PORT}", pod.pid

    async def rotated() -> bool:
        return await get(f"{base}/login/token") == (200, "second")

    await runner.until(rotated, "the file has the new token", 60)
    assert await get(f"{base}/env") == (200, f"first {name}")
    assert pod.pid == pid

    # Not ready is taken back when the probe is answered again, and ends nothing.
    async def ready(count: int) -> bool:
        status = (await runner.call("GET", f"{DEPLOYMENTS}/web"))["status"]
        return bool(status.get("readyReplicas", 0) == count)

    await put(runner, "configmaps", "settings", {"live": "yes"})
    await runner.until(lambda: ready(0), "no Pod is ready", 60)
    await put(runner, "configmaps", "settings", WELL)
    await runner.until(lambda: ready(2), "both are ready", 60)
    assert pod.pid == pid


async def test_what_is_killed_or_not_live_is_started_again(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", WELL)
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("killed"))
    await rolled(runner, "killed")
    ((name, pod),) = runner.pods("default", app="killed").items()
    assert pod.pid is not None
    os.kill(pod.pid, signal.SIGKILL)

    async def told() -> bool:
        (one,) = await pods(runner, "killed")
        (status,) = one["status"]["containerStatuses"]
        ended = status["lastState"].get("terminated", {})
        return (one["metadata"]["name"], status["restartCount"], ended.get("exitCode"),
                status["ready"]) == (name, 1, 137, True)  # fmt: skip

    await runner.until(told, "it runs again", 60)

    pid = pod.pid
    await put(runner, "configmaps", "settings", {"state": "well"})
    await runner.until(lambda: pod.restarts == 2, "the liveness probe has ended it", 60)
    await put(runner, "configmaps", "settings", WELL)
    await rolled(runner, "killed")
    assert pod.pid != pid


async def test_what_ends_again_and_again_is_backed_off(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", WELL)
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("ends", image="ends"))

    async def backed_off() -> bool:
        for one in await pods(runner, "ends"):
            for status in one["status"].get("containerStatuses", ()):
                waits = status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                if waits and status["restartCount"] >= 3:
                    assert status["lastState"]["terminated"]["exitCode"] == 3
                    return True
        return False

    await runner.until(backed_off, "it is backed off", 60)
    await runner.call("DELETE", f"{DEPLOYMENTS}/ends")
    await gone(runner, "ends")


async def test_a_roll_out_has_no_gap_and_what_goes_has_its_time(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", WELL)
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("rolls", more="deaf"))
    await rolled(runner, "rolls")
    ((_, old),) = runner.pods("default", app="rolls").items()
    process = psutil.Process(old.pid)
    change = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
    await runner.call("PATCH", f"{DEPLOYMENTS}/rolls", change, kind="merge-patch")

    # It is deaf to SIGTERM, and is ended after its grace period of a second.
    async def another() -> bool:
        running = [pod for pod in runner.pods("default", app="rolls").values() if pod is not old]
        served = [await get(f"http://{pod.address}:{PORT}/state") for pod in (old, *running)]
        assert (200, "well") in served, "nobody answered"
        return bool(running) and not process.is_running()

    await until(another, seconds=60, what="the new one has taken over")
    await rolled(runner, "rolls")
    await runner.call("DELETE", f"{DEPLOYMENTS}/rolls")
    await gone(runner, "rolls")


async def test_the_runner_outlives_the_api_server(runner: KubeRunner) -> None:
    await put(runner, "configmaps", "settings", WELL)
    await put(runner, "secrets", "login", {"token": "first"})
    await runner.call("POST", DEPLOYMENTS, deployment("lives"))
    await rolled(runner, "lives")
    ((_, pod),) = runner.pods("default", app="lives").items()
    pid = pod.pid
    await runner.end("controller-manager")
    await runner.kill_api()
    assert pod.pid == pid
    await runner.start_api()
    runner.start_controllers()
    await runner.call("DELETE", f"{DEPLOYMENTS}/lives")
    await gone(runner, "lives")
    assert pod.pid is None


async def test_a_pod_whose_namespace_goes_before_it_is_bound(runner: KubeRunner) -> None:
    """It is refused for good, and no failure of the runner, which would end the session in red."""
    path, held = "/api/v1/namespaces", ["example.com/held"]
    await runner.call("POST", path, {"metadata": {"name": "goes", "finalizers": held}})
    await runner.call("DELETE", f"{path}/goes")
    late = {"metadata": {"namespace": "goes", "name": "late", "uid": "1"}}
    try:
        await runner._bind(late)
    finally:
        free = {"metadata": {"finalizers": []}}
        await runner.call("PATCH", f"{path}/goes", free, kind="merge-patch")
