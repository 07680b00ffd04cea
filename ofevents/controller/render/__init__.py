"""From resolved specs to the manifests of a cluster: pure, and the same for the same input.

    children(owner, workloads, platform) -> Rendered

`workload.py` has what comes in and goes out, `children.py` puts a worker's children together,
and each of the others makes one sort of them.
"""

from ofevents.controller.render.children import children
from ofevents.controller.render.names import child_name, entry_name
from ofevents.controller.render.workload import (
    Owner,
    Platform,
    Rendered,
    SecretUse,
    Workload,
)

__all__ = [
    "Owner",
    "Platform",
    "Rendered",
    "SecretUse",
    "Workload",
    "child_name",
    "children",
    "entry_name",
]
