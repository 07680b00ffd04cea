"""One process: its event loop, its signals, its end.

Used by every async verb of the command line, by functions that run alone, and by
the workers, whose every wait ends early when they are asked to stop (`unless`).

The first SIGINT or SIGTERM asks to stop (the verb drains what is in hand); the
second ends the process at once, after what it started has been killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NoReturn, Self, TypeVar

T = TypeVar("T")

INTERRUPTED: Final = 130
"""Exit code after a second Ctrl-C, as shells have it."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on uvloop where there is one; a Ctrl-C raises KeyboardInterrupt.

    An error inside a task group is raised as itself where it is the only one, so
    that a ConfigError keeps its sentence.
    """
    _calm_collector()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _calm_collector() -> None:
    """Let the garbage collector leave alone what lives as long as the process.

    Thousands of deliveries in hand are young objects that the default thresholds
    carry over to the oldest generation, so that modules and models are walked
    through again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # here: Windows has none

    return uvloop.new_event_loop


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def end_if_cancelled() -> None:
    """Raise the CancelledError that a library may have swallowed, as `asyncio.wait_for`
    does on Python 3.11, which nats-py and redis-py call.

    To be called after a question that a loop goes on after; not while ending.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Await `work`; once `stop` is set it is cancelled, and has its time to end.

    Returns:
        whether it was completed.

    Raises:
        Exception: what `work` raised.
    """
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        left = [one for one in (task, stopping) if not one.done()]
        for one in left:
            one.cancel()
        # A cancelled task may still have something to close.
        await asyncio.gather(*left, return_exceptions=True)


def first_error(errors: BaseException) -> BaseException:
    """The first error in a group that is none itself.

    For a task group whose tasks fail together: the others came of the same cause,
    or of being cancelled.
    """
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


class Stop:
    """Set by the first signal; the second one ends the process.

    Attributes:
        event: set once the process shall stop.
        at_once: called before the process ends by a second signal: each kills
            something that would outlive us. They must not block.
    """

    def __init__(self, within: float | None = None) -> None:
        """`within` seconds after the first signal the process ends, stopped or not."""
        self.event = asyncio.Event()
        self.at_once: list[Callable[[], None]] = []
        self._within = within
        self._guard: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[Self]:
        """Take SIGINT and SIGTERM while the block runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield self
        finally:
            if self._guard is not None:
                self._guard.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
                # What is left is the interpreter's own end: nobody wants a traceback from it.
                signal.signal(number, lambda *_: os._exit(INTERRUPTED))

    def _on_signal(self) -> None:
        if self.event.is_set():
            self._end(INTERRUPTED)
        self.event.set()
        if self._within is not None:
            loop = asyncio.get_running_loop()
            self._guard = loop.call_later(self._within, self._too_late, self._within)

    def _too_late(self, within: float) -> None:
        sys.stderr.write(f"something did not stop within {within:g} s: ended without it\n")
        sys.stderr.flush()
        self._end(1)

    def _end(self, code: int) -> NoReturn:
        for kill in self.at_once:
            with contextlib.suppress(Exception):
                kill()
        os._exit(code)
