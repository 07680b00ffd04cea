"""Component files, as daprd reads them: one change of its folder is one file moved in.

Used by the driver (`dapr_resources`) and by `ofevents run`, which does without Dapr's
client library where nothing of Dapr is in use: it is not imported here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from ofevents.bus.dapr_components import Manifest


def write(folder: Path, name: str, manifests: Sequence[Manifest]) -> None:
    """Add them to the file of that name; those that it has already under their name are
    replaced."""
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    held: list[Manifest] = []
    if path.exists():
        held = [one for one in yaml.safe_load_all(path.read_text()) if one]
    named = {(one["kind"], one["metadata"]["name"]): one for one in [*held, *manifests]}
    if list(named.values()) == held:
        return
    # Secrets may be in it. The draft lies beside the folder, where daprd does not look.
    draft = folder.parent / f"{folder.name}-{name}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump_all(named.values(), file, sort_keys=False)
    draft.rename(path)
