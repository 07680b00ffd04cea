"""Waking the file source when something changes in a folder; used by `file`.

The system's notifications make it quick; they are not relied on. A network file system
sends none, a folder may not be there yet, a queue may overflow: so a wait ends at the
latest after the polling interval, and a look finds what there is.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Final, Self

from watchfiles import watch

from ofevents_adapters.file_config import Settings

_DEBOUNCE: Final = 50
_STEP: Final = 20
"""Milliseconds in which changes are gathered, and of quiet that ends the gathering."""
_LEAVE: Final = 1.0


class Changes:
    """Watches while in the `async with`, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            try:
                async with asyncio.timeout(_LEAVE):
                    await self._ended.wait()
            except TimeoutError:
                pass  # it ends by itself

    async def wait(self, seconds: float) -> None:
        """Return at a change since the last call, at the latest after `seconds`."""
        self._start()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _start(self) -> None:
        """Watch, where there is something to watch and nobody does yet."""
        running = self._thread is not None and self._thread.is_alive()
        if not running and self._settings.folder.is_dir():
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="file: watches", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            for changes in watch(
                self._settings.folder,
                watch_filter=None,
                debounce=_DEBOUNCE,
                step=_STEP,
                stop_event=self._stop,
                rust_timeout=1000,
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=self._settings.deep,
                ignore_permission_denied=True,
            ):
                if not self._settings.folder.is_dir():
                    return  # gone; `wait` begins again where it comes back
                if changes:
                    self._tell(self._changed)
        except (OSError, RuntimeError):
            pass  # not to be watched: polling is left
        finally:
            self._tell(self._ended)

    def _tell(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            pass  # the loop is closed
