"""What every object of an installation has. Called by the modules that make them."""

from __future__ import annotations

from typing import Any

from ofevents import __version__
from ofevents.install.settings import LABEL, SELECTOR, Settings

Object = dict[str, Any]


def labels(settings: Settings) -> dict[str, str]:
    """Of every object: what it is part of, and of which installation."""
    return {
        **SELECTOR,
        "app.kubernetes.io/part-of": "ofevents",
        "app.kubernetes.io/version": __version__,
        LABEL: settings.namespace,
    }


def metadata(settings: Settings, name: str, namespace: str) -> Object:
    """Name, labels, and the namespace unless it is ""."""
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": labels(settings)}
