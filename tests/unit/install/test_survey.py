"""How many replicas of a Deployment are up with what was applied last."""

from __future__ import annotations

import pytest

from ofevents.install.survey import rollout


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, 2),
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, 1),
        ({"replicas": 2, "updatedReplicas": 2}, 0),
        ({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}, 0),  # the old ones are
        ({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, 1),
        ({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, 2),
        ({"replicas": 2, "availableReplicas": 2}, 0),
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}, 0),
    ],
)
def test_a_replica_of_before_does_not_count(status: dict[str, int], ready: int) -> None:
    found = {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, **status},
    }
    assert rollout(found) == (ready, 2)
