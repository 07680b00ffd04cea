"""Objects as YAML that people read: no anchors, the order as given, long texts as blocks.

Called by `files`, by `ofevents install --dry-run` and by `ofevents crds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Without anchors: strict parsers do not take them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)


def as_yaml(document: Any, *, width: int = 100) -> str:
    """One document, without a separator."""
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, width=width, allow_unicode=True
    )
    return text


def as_stream(documents: Iterable[Any]) -> str:
    """Several documents for `kubectl apply -f -`."""
    return "---\n".join(as_yaml(each) for each in documents)
