"""Resources and what they refer to, as the specs that workers run from.

    documents = load(["deploy/samples/quickstart"])     # every file, every mistake
    resolution = resolve(documents)                     # workers, buses, problems
    resolution.errors, resolution.workers, resolution.buses

Callers: `ofevents run`, `validate`, the controller; `needs` also the workers.
"""

from ofevents.resolve.documents import Documents, Loaded, interpret, load
from ofevents.resolve.lookup import FileLookUp, FoundBus, LookUp, NotFound
from ofevents.resolve.problems import Problem
from ofevents.resolve.resolution import Blocked, BusPlan, Needs, Resolution, needs, resolve

__all__ = [
    "Blocked",
    "BusPlan",
    "Documents",
    "FileLookUp",
    "FoundBus",
    "Loaded",
    "LookUp",
    "Needs",
    "NotFound",
    "Problem",
    "Resolution",
    "interpret",
    "load",
    "needs",
    "resolve",
]
