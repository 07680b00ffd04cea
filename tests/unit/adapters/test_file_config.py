"""From FileSpec to what is looked for; what is refused, with its path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ofevents.api.platform import FileSpec
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.file import FileSource
from ofevents_adapters.file_config import Settings, settings

IDENTITY = SourceIdentity("default", "shop", "file", "orders")


def read(path: str = "/var/log/shop/*.log", **fields: Any) -> Settings:
    return settings(FileSpec.model_validate({"path": path, **fields}), IDENTITY)


@pytest.mark.parametrize(
    ("path", "folder", "deep"),
    [
        ("/var/log/shop.log", "/var/log", False),
        ("/var/log/shop/*.log", "/var/log/shop", False),
        ("/var/log/*/shop.log", "/var/log", True),
        ("/var/**/a/*.log", "/var", True),
        ("logs/[ab].log", f"{os.getcwd()}/logs", False),
    ],
)
def test_what_is_watched(path: str, folder: str, deep: bool) -> None:
    made = read(path)
    assert (made.folder, made.deep) == (Path(folder), deep)
    assert made.pattern == os.path.abspath(path)


def test_what_the_source_promises() -> None:
    features = FileSource(FileSpec(path="/a"), IDENTITY, clock=SystemClock()).features
    assert (features.guarantee, features.stable_ids) == ("at-least-once", True)
    assert features.ordered and not features.scales


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"path": ""}, "path", "such as /var/log"),
        ({"path": "/a\0b"}, "path", "such as /var/log"),
        ({"path": "/var/log/"}, "path", r"/var/log/ is a folder; .* /var/log/\*"),
        ({"pollingInterval": "10ms"}, "pollingInterval", "at least 50ms"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read(**fields)
    assert caught.value.path == f"spec.file.orders.{path}"
