"""What `ofevents resolve` writes: one resolved spec for each worker.

A bus that is embedded has no address of its own: it gets that of the `ofevents
run` that holds the data directory now, or the one given with --bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.errors import ConfigError
from ofevents.local import datadir
from ofevents.local.workers import Spec
from ofevents.resolve.problems import nearest


def reachable(
    workers: Sequence[Spec], files: Sequence[Path], address: str | None, data: Path | None
) -> list[Spec]:
    """The workers, each with a bus that can be reached from another process.

    Raises:
        ConfigError: the bus is embedded and not running.
    """
    directory = data or datadir.beside(files[0])
    state = datadir.read(directory) if datadir.held(directory) else None
    running = state.buses if state is not None else {}

    def place(spec: Spec) -> Spec:
        if spec.bus is None or (address is None and not spec.bus.options.get("embedded")):
            return spec
        if address is not None:
            options = {k: v for k, v in spec.bus.options.items() if k not in ("embedded", "sync")}
            bus = spec.bus.model_copy(update={"options": {**options, "url": address}})
        elif spec.bus.name in running:
            bus = ResolvedBus.model_validate(running[spec.bus.name])
        else:
            raise ConfigError(
                f"EventBus {spec.bus.name} is embedded and not running: start `ofevents run -f "
                f"{files[0]}` first, or give a bus with --bus nats://HOST:4222"
            )
        return spec.model_copy(update={"bus": bus})

    return [place(spec) for spec in workers]


def title(spec: Spec) -> str:
    """`shop/orders` for an entry of an EventSource, `checkout` or `source/shop` for a Trigger."""
    return f"{spec.name}/{spec.entry}" if isinstance(spec, ResolvedSource) else spec.owner


def select(specs: Sequence[Spec], name: str | None) -> list[Spec]:
    """Those of that name; a namespace may stand in front.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    if name is None:
        return list(specs)
    found = [
        spec
        for spec in specs
        if name in (title(spec), spec.name, f"{spec.namespace}/{title(spec)}")
    ]
    if not found:
        near = nearest(name, [title(spec) for spec in specs])
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"no worker is named {name!r}{hint}")
    return found


def dump(specs: Sequence[Spec], *, json: bool) -> str:
    """YAML documents, or a JSON object a line."""
    raw = [_plain(spec) for spec in specs]
    if json:
        return "".join(orjson.dumps(one).decode() + "\n" for one in raw)
    return yaml.safe_dump_all(raw, sort_keys=False, allow_unicode=True, explicit_start=True)


def write(specs: Sequence[Spec], folder: Path, *, json: bool) -> list[Path]:
    """A file for each, such as `eventsource.default.shop.orders.yaml`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for spec in specs:
            parts = [spec.kind.lower(), spec.namespace, *title(spec).split("/")]
            path = folder / f"{'.'.join(parts)}.{'json' if json else 'yaml'}"
            path.touch(mode=0o600)
            path.write_text(dump([spec], json=json))
            paths.append(path)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    return paths


def _plain(spec: Spec) -> dict[str, Any]:
    return spec.model_dump(mode="json")
