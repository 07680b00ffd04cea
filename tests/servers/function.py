"""A function in a process of its own that survives nothing and forgets nothing.

For the fault tests, which kill it and count afterwards. `async with Function(folder)
as function` runs `python -m tests.servers.function PORT FOLDER`, a `Sink` that

- appends a line per event to FOLDER/ids before it answers:
  `<Unix time of the call> <status answered> <event id>`. The status is 0 where none
  was answered: the call was dropped, hung or poison, or its caller left. A call that
  a kill cuts short in its `delay` leaves no line: nothing was accepted.
- reads FOLDER/mode at each call, see `Mode`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.servers import HOST, ServerFailed, free_port, listening, until
from tests.servers.sink import Answer, Seen, Sink

_AGAIN = 0.1
"""Seconds before a function that ended is started again."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What the function does with each call.

    Attributes:
        answer: `ok` (202), a status, `drop` (closes without an answer), `hang`.
        delay: seconds before the answer.
        poison: a call with the event of this id ends the process at once.
    """

    answer: str = "ok"
    delay: float = 0.0
    poison: str | None = None


class Call(NamedTuple):
    """One event of one call; `time` (Unix) is its arrival, `status` 0 without an answer."""

    time: float
    status: int
    id: str


class Function:
    """The function's process, seen from the test.

    Attributes:
        url: where it listens, whenever it runs.
    """

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        """`keep` starts it again whenever it ended, `gone` excepted; it is up in 0.5 s."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._folder = folder
        self._keep = keep
        self._mode = Mode()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._spawning = asyncio.Lock()
        self._calls: list[Call] = []
        self._accepted: Counter[str] = Counter()
        self._read = 0

    async def __aenter__(self) -> Self:
        self.mode()
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.gone()

    async def start(self) -> None:
        """Start it, and return when it listens.

        Raises:
            ServerFailed: it does not come up; with the tail of its output.
        """
        await self._spawn()
        if self._keep:
            self._keeper = asyncio.create_task(self._keep_up())
        try:
            await until(lambda: listening(self.port), seconds=60, what="the function listens")
        except TimeoutError as error:
            await self.gone()
            raise ServerFailed(f"{error}\n{self._log.read_text()[-2000:]}") from error

    async def kill(self) -> None:
        """SIGKILL, and wait; nothing when it does not run. With `keep` it comes back."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def gone(self) -> None:
        """Kill it for good: nobody listens until `back`."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            async with self._spawning:  # cancelled in there, it would lose a process
                keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        await self.kill()

    async def back(self) -> None:
        """End `gone`; return when it listens."""
        await self.start()

    def mode(self, **changes: Any) -> None:
        """Change what it does from the next call on; see `Mode`. The rest stays."""
        self._mode = replace(self._mode, **changes)
        new = self._folder / "mode.new"
        new.write_text(json.dumps(asdict(self._mode)))
        new.rename(self._folder / "mode")

    def calls(self) -> list[Call]:
        """Every call so far, in the order in which they ended."""
        self._read_on()
        return list(self._calls)

    def accepted(self) -> Counter[str]:
        """How often each id was answered with 2xx."""
        self._read_on()
        return Counter(self._accepted)

    def _read_on(self) -> None:
        ids = self._folder / "ids"
        if ids.exists():
            with ids.open("rb") as lines:
                lines.seek(self._read)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # being written, or torn by a kill
                    self._read += len(line)
                    at, status, id = line.decode().rstrip("\n").split(" ", 2)
                    self._calls.append(Call(float(at), int(status), id))
                    if 200 <= int(status) < 300:
                        self._accepted[id] += 1

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    async def _spawn(self) -> None:
        async with self._spawning:
            with self._log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "tests.servers.function", str(self.port), str(self._folder)),
                    cwd=Path(__file__).parents[2],
                    env=dict(os.environ),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )

    async def _keep_up(self) -> None:
        while self._process is not None:
            await self._process.wait()
            await asyncio.sleep(_AGAIN)
            await self._spawn()


# -- the process ----------------------------------------------------------------


class _Behaviour:
    """What the process answers, and its lines."""

    def __init__(self, folder: Path) -> None:
        self._mode = folder / "mode"
        self._ids = os.open(folder / "ids", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # What a kill tore must not grow into a line that never was.
        whole = (folder / "ids").read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._ids, whole)

    def __call__(self, seen: Seen) -> Answer:
        at, mode = time.time(), Mode(**json.loads(self._mode.read_bytes()))
        ids = [event.id for event in seen.events]
        write = partial(self._write, at, ids)
        if mode.poison is not None and mode.poison in ids:
            write(0)
            os._exit(1)
        if mode.answer == "hang":
            write(0)
            return Answer(how="hang")
        if mode.answer == "drop":
            write(0)
            return Answer(how="drop", delay=mode.delay)
        status = 202 if mode.answer == "ok" else int(mode.answer)
        return Answer(status, delay=mode.delay, ended=_ended(write, status))

    def _write(self, at: float, ids: list[str], status: int) -> None:
        os.write(self._ids, "".join(f"{at:.4f} {status} {id}\n" for id in ids).encode())


def _ended(write: Callable[[int], None], status: int) -> Callable[[bool], None]:
    return lambda answered: write(status if answered else 0)


async def _serve(port: int, folder: Path) -> None:
    behaviour = _Behaviour(folder)

    def react(seen: Seen) -> Answer:
        sink.seen.clear()  # the lines are enough, and memory stays flat
        return behaviour(seen)

    sink = Sink(port=port, answer=react)
    async with sink:
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
