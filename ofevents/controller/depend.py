"""Which resource asked for which referent, both ways round.

Filled after each plan, read at each change in the cluster: exactly those that asked for
what has changed are planned again, whether it was there before or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from ofevents.cluster.lookup import Referent
from ofevents.controller.queue import Key


class Dependencies:
    """Owner -> referents, and back."""

    def __init__(self) -> None:
        self._asked: dict[Key, frozenset[Referent]] = {}
        self._askers: dict[Referent, set[Key]] = {}

    def set(self, owner: Key, asked: Iterable[Referent]) -> Set[Referent]:
        """That is all it has asked for; returns what is new or has gone among it."""
        before, now = self._asked.get(owner, frozenset()), frozenset(asked)
        for referent in before - now:
            askers = self._askers[referent]
            askers.discard(owner)
            if not askers:
                del self._askers[referent]
        for referent in now - before:
            self._askers.setdefault(referent, set()).add(owner)
        if now:
            self._asked[owner] = now
        else:
            self._asked.pop(owner, None)
        return before ^ now

    def askers(self, referent: Referent) -> list[Key]:
        """Who asked for it."""
        return sorted(self._askers.get(referent, ()), key=lambda key: (key[0].kind, key[1], key[2]))
