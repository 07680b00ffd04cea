"""One inbox for all answers of the server: who waits for which.

The Link subscribes `take` once per connection and hands every question a reply
subject from `expect`; nats-py's own request would leave its callers waiting
when the connection is lost.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Protocol

from nats.aio.msg import Msg

from ofevents.errors import Disconnected


class Waiter(Protocol):
    """Somebody who waits for answers."""

    def answer(self, msg: Msg) -> bool:
        """Take one; True when no more are expected."""
        ...

    def lost(self, error: Disconnected) -> None:
        """The connection is gone, or the waiter's time is up."""
        ...


class Answers:
    """See the module. `inbox` is the subject of the current connection."""

    def __init__(self) -> None:
        self.inbox = ""
        self._waiters: dict[str, Waiter] = {}
        self._tokens = itertools.count()

    async def take(self, msg: Msg) -> None:
        """Called by nats-py for each answer."""
        token = msg.subject[len(self.inbox) + 1 :]
        waiter = self._waiters.get(token)
        if waiter is not None and waiter.answer(msg):
            self._waiters.pop(token, None)

    def expect(self, waiter: Waiter) -> tuple[str, str]:
        """A token and the reply subject on which answers to `waiter` arrive."""
        token = str(next(self._tokens))
        self._waiters[token] = waiter
        return token, f"{self.inbox}.{token}"

    def forget(self, token: str) -> None:
        """Expect no more answers for it."""
        self._waiters.pop(token, None)

    def lose(self, error: Disconnected) -> None:
        """Tell all who wait that nothing will come."""
        waiters, self._waiters = self._waiters, {}
        for waiter in set(waiters.values()):
            waiter.lost(error)


class One:
    """Waits for a single answer."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Msg]) -> None:
        self.future = future

    def answer(self, msg: Msg) -> bool:
        if not self.future.done():
            self.future.set_result(msg)
        return True

    def lost(self, error: Disconnected) -> None:
        if not self.future.done():
            self.future.set_exception(error)
