"""A change of a Kubernetes object as an Event; called for each by `kubernetes`.

- **type** `ofevents.kubernetes.added`, `.modified` or `.deleted`; **subject** is
  `namespace/name`, or the name alone; **partitionkey** the same: changes of an object stay
  in order. Extensions `kubernetesapiversion` and `kubernetesobjectkind`.
- **id** is `uid@resourceVersion`, the same however often the change is told. A deletion has
  a version of its own.
- **time** is the last that the object tells: of its creation or deletion, or of a change
  that is noted in managedFields.
- **data** is the object, as the API serves it; of a deleted one its last state.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ofevents.event import Event, Scalar

TYPE: Final = "ofevents.kubernetes"


def event_of(change: str, item: dict[str, Any], source: str) -> Event:
    """The event of a change (ADDED, MODIFIED or DELETED) of an object."""
    about = item["metadata"]
    place = "/".join(filter(None, (about.get("namespace"), about["name"])))
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": f"{about['uid']}@{about['resourceVersion']}",
        "source": source,
        "type": f"{TYPE}.{change.lower()}",
        "subject": place,
        "partitionkey": place,
        "kubernetesapiversion": item["apiVersion"],
        "kubernetesobjectkind": item["kind"],
        "datacontenttype": "application/json",
    }
    if (time := _time(about)) is not None:
        attributes["time"] = time
    return Event(attributes, orjson.dumps(item), item)


def _time(about: dict[str, Any]) -> str | None:
    """All are in UTC and in seconds, so the largest text is the latest."""
    times = [one.get("time") for one in about.get("managedFields", ())]
    times += [about.get("creationTimestamp"), about.get("deletionTimestamp")]
    return max(filter(None, times), default=None)
