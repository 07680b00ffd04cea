"""The resolved spec as a worker's Pod has it: a ConfigMap, or a Secret if it holds credentials.

A credential is what a model of `ofevents.api` hides (`repr=False`), what is called like one,
a header's value, and a login or a token within an address, be it the second of a list. A
number counts as its text. A marker is none: it only names a Secret. Of
a custom source nobody here knows which of its fields are: its spec is always kept in a Secret.
Taking too much for a credential costs nothing.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ofevents.api.eventsource import SPECS
from ofevents.api.meta import Model
from ofevents.api.resolved import ResolvedSource
from ofevents.api.secretref import only
from ofevents.controller.render.names import child_name, metadata
from ofevents.controller.render.workload import Manifest, Owner, Spec

FILE: Final = "spec.json"
FOLDER: Final = "/etc/ofevents/spec"
SECRETS: Final = "/etc/ofevents/secrets"
_CALLED: Final = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|credential|key$|bearer|connectionstring|nkey|creds", re.I
)
_LOGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s]*@", re.I)
_ASKED: Final = re.compile(r"[?&]([^=&#\s]+)=")
"""What an address's query names."""
_NOT_ONE: Final = {"joinBy", "join_by", "partitionkey", "routingKey", "keyPrefix"}


def _hidden(model: type[Model]) -> Iterator[str]:
    for each in model.__subclasses__():
        for name, field in each.model_fields.items():
            if field.repr is False:
                yield name
                yield field.alias or name
        yield from _hidden(each)


_HIDDEN: Final = frozenset(_hidden(Model))


def holds_credentials(spec: Spec) -> bool:
    """Whether a credential stands in it as text."""
    if isinstance(spec, ResolvedSource) and spec.source not in SPECS:
        return True
    return _holds(spec.model_dump(mode="json"), "")


def is_credential(name: str, value: Any) -> bool:
    """Whether a setting of that name has a credential as text in its value."""
    return _holds(value, name)


def _holds(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        called = str(value.get("name", "")) if "value" in value else ""
        return any(
            (name == "headers" and bool(each) and only(each) is None)
            or _holds(each, called if key == "value" else str(key))
            for key, each in value.items()
        )  # fmt: skip
    if isinstance(value, (list, tuple)):
        return any(_holds(each, name) for each in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or only(value) is not None:
        return False
    if _LOGIN.search(value):
        return True
    if "://" in value and any(_CALLED.search(each) for each in _ASKED.findall(value)):
        return True
    if name in _HIDDEN and name not in ("url", "spec"):
        return True  # an address is hidden for its login's sake
    return name == "basic" or (bool(_CALLED.search(name)) and name not in _NOT_ONE)


def document(
    owner: Owner, spec: Spec, text: Mapping[str, Any], extra: Mapping[str, str]
) -> Manifest:
    """The ConfigMap or Secret, called as the Deployment.

    Args:
        text: the spec, as the worker shall read it.
        extra: further credentials, by key, that something else than the worker reads.
    """
    own = metadata(owner, spec, child_name(spec))
    body = {FILE: json.dumps(text, sort_keys=True, separators=(",", ":"))}
    if extra or holds_credentials(spec):
        # Readable as data, so that what the server holds can be compared with what is wanted.
        data = {key: _base64(each) for key, each in {**body, **extra}.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": own, "type": "Opaque",
                "data": data}  # fmt: skip
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": body}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
