"""From `FileSpec` to what the file source looks for; checked when the source is built."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ofevents.api.platform import FileSpec
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity

_LEAST_POLLING: Final = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What a source of this spec does.

    Attributes:
        pattern: an absolute path, perhaps with wildcards.
        folder: the deepest folder without a wildcard: it is watched.
        deep: whether folders below it are looked into.
        polling: seconds between two looks at the latest.
        path: of the entry in the document, for errors.
    """

    pattern: str
    folder: Path
    deep: bool
    polling: float
    path: str


def settings(spec: FileSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong.
    """
    path = f"spec.file.{identity.entry}"
    if not spec.path or "\0" in spec.path:
        raise ConfigError("expected a path such as /var/log/shop/*.log", path=f"{path}.path")
    if spec.path.endswith("/"):
        raise ConfigError(
            f"{spec.path} is a folder; expected a file or a pattern such as {spec.path}*",
            path=f"{path}.path",
        )
    if spec.polling_interval < _LEAST_POLLING:
        raise ConfigError(
            f"expected at least {_LEAST_POLLING * 1000:.0f}ms", path=f"{path}.pollingInterval"
        )
    pattern = os.path.abspath(spec.path)
    folder = Path(pattern).parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return Settings(
        pattern=pattern,
        folder=folder,
        deep=Path(pattern).parent != folder,
        polling=spec.polling_interval,
        path=path,
    )
