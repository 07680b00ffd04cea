"""What the -f files mean: read and resolved, with every problem in them.

Called by `run`, by `find` (which bus) and for the verb `resolve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ofevents.api.resolved import ResolvedBus
from ofevents.resolve import FileLookUp, Resolution, load, resolve
from ofevents.resolve.lookup import parse_urls


def read(files: Sequence[Path], urls: Sequence[str] = ()) -> Resolution:
    """Workers, buses and problems; never raises for what is in the files.

    Raises:
        ConfigError: one of `urls` (`name=URL`, where a sink's ref is reached) is wrong.
    """
    documents = load(files)
    return resolve(documents, FileLookUp(documents, parse_urls(urls)))


def buses(files: Sequence[Path]) -> dict[str, ResolvedBus]:
    """The buses that the files' workers use, by name; {} without such files."""
    there = [path for path in files if path.exists()]
    return {plan.bus.name: plan.bus for plan in read(there).buses}
