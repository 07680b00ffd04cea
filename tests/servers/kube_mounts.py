"""What a Pod of the process runner is given: the files of its volumes, and its environment.

A process has no file system of its own, so that the container's paths lie in a folder, and
what the container is told is told with that folder before it; and it has no network of its
own, so that its `0.0.0.0` is the Pod's address. Used by tests/servers/kube_pod.py.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

ANYWHERE: Final = "0.0.0.0"
Find = Callable[[str, str], Any]
"""Kind (`ConfigMap`, `Secret`) and name -> the object, None without one."""


class NotThere(Exception):
    """A Secret, ConfigMap or key that the Pod needs does not exist; the text names it."""


def localised(text: str, mounts: list[str], root: Path, address: str) -> str:
    """A word of a command, or a value, as the process needs it."""
    if text == ANYWHERE:
        return address
    inside = any(text == each or text.startswith(f"{each}/") for each in mounts)
    return f"{root}{text}" if inside else text


def fill(pod: Any, container: Any, root: Path, address: str, find: Find) -> None:
    """Write every file of the volumes, and take away those that are no longer there.

    Raises:
        NotThere: what a volume is made of is missing.
    """
    volumes = {each["name"]: each for each in pod["spec"].get("volumes") or ()}
    for mount in container.get("volumeMounts") or ():
        folder = Path(f"{root}{mount['mountPath']}")
        folder.mkdir(parents=True, exist_ok=True)
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            continue
        wanted = {folder / path: data for path, data in _files(volume, find)}
        for path, data in wanted.items():
            _write(path, data.replace(f'"{ANYWHERE}"'.encode(), f'"{address}"'.encode()))
        for path in folder.rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()


def _files(volume: Any, find: Find) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a volume."""
    if "projected" in volume:
        for each in volume["projected"]["sources"]:
            yield from _files(each, find)
    elif "configMap" in volume:
        yield from _items(volume["configMap"], "ConfigMap", volume["configMap"]["name"], find)
    elif "secret" in volume:
        source = volume["secret"]
        yield from _items(source, "Secret", source.get("secretName") or source["name"], find)
    else:
        raise NotImplementedError(f"the process runner has no volume {volume}")


def _items(source: Any, kind: str, name: str, find: Find) -> Iterator[tuple[str, bytes]]:
    data = _data(kind, name, find)
    for item in source.get("items") or [{"key": key, "path": key} for key in data]:
        if item["key"] not in data:
            raise NotThere(f"references non-existent {kind} key: {name}/{item['key']}")
        yield item["path"], data[item["key"]]


def _data(kind: str, name: str, find: Find) -> dict[str, bytes]:
    found = find(kind, name)
    if found is None:
        raise NotThere(f'{kind.lower()} "{name}" not found')
    held = found.get("data") or {}
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in held.items()}
    return {key: value.encode() for key, value in held.items()}


def _write(path: Path, data: bytes) -> None:
    """Replace the file at once: nobody reads half of it."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(data)
    os.replace(draft, path)


def environment(pod: Any, container: Any, address: str, find: Find) -> dict[str, str]:
    """The container's own variables.

    Raises:
        NotThere: what one is taken from is missing.
    """
    found = {}
    for each in container.get("env") or ():
        origin = each.get("valueFrom") or {}
        value: str | None = each.get("value", "")
        if field := origin.get("fieldRef"):
            value = _field(pod, field["fieldPath"], address)
        for kind, source in (
            ("Secret", origin.get("secretKeyRef")),
            ("ConfigMap", origin.get("configMapKeyRef")),
        ):
            if source:
                value = _value(kind, source, find)
        if value is not None:
            found[each["name"]] = value
    return found


def _value(kind: str, source: Any, find: Find) -> str | None:
    """None where it is missing, and may be."""
    try:
        data = _data(kind, source["name"], find)
        if source["key"] not in data:
            raise NotThere(f"couldn't find key {source['key']} in {kind} {source['name']}")
    except NotThere:
        if source.get("optional"):
            return None
        raise
    return data[source["key"]].decode()


def _field(pod: Any, path: str, address: str) -> str:
    if path in ("status.podIP", "status.hostIP"):
        return address
    metadata, spec = pod["metadata"], pod["spec"]
    fields = {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
    fields |= {f"metadata.labels['{k}']": v for k, v in (metadata.get("labels") or {}).items()}
    fields |= {"spec.nodeName": spec.get("nodeName", ""),
               "spec.serviceAccountName": spec.get("serviceAccountName", "")}  # fmt: skip
    return str(fields[path])
