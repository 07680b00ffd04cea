"""What happens at EventSources without a bus or a Trigger seeing it, in sentences.

That is what an EventSource's own filter keeps back and, where it has no bus, what its
sink and its deadLetterSink got. Read off the metrics, as nothing else counts it; shown
by `ofevents run` so that a record that was taken and then seems to vanish is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from ofevents.telemetry import DEAD_LETTERED, DELIVERED, FILTERED

_WHY: Final = {
    "filter": "its filter does not want",
    "onError": "its filter could not judge (onError: skip)",
}

Entry = tuple[str, str, str]
"""Namespace, name and entry of an EventSource."""


def _none() -> Collection[Entry]:
    return ()


class Tally:
    """Remembers what was told, and gives what is new; `direct` are those without a bus."""

    def __init__(self, direct: Callable[[], Collection[Entry]] = _none) -> None:
        self._direct = direct
        self._known: set[Entry] = set()
        self._told: dict[tuple[str, ...], float] = {}
        for _ in self._counts():
            pass  # what other runs of this process have counted is no news

    def news(self) -> list[str]:
        """A sentence for each EventSource and each thing that happened since the last call."""
        # One that is draining has left the list, and still delivers.
        self._known |= set(self._direct())
        sentences = []
        for metric, labels, new in self._counts():
            name = f"{labels['namespace']}/{labels['name']}"
            if metric == "filtered":
                what = f"received that {_WHY.get(labels['reason'], labels['reason'])}"
            elif (labels["namespace"], labels["name"], labels["subscriber"]) not in self._known:
                continue  # the event's way says it
            else:
                name += f"/{labels['subscriber']}"
                what = "delivered to its sink"
                if metric == "dead-lettered":
                    what = f"dead-lettered to its deadLetterSink: {labels['reason']}"
            count = "1 event" if new == 1 else f"{new:,} events"
            sentences.append(f"EventSource {name.removeprefix('default/')}: {count} {what}")
        return sentences

    def _counts(self) -> Iterator[tuple[str, dict[str, str], int]]:
        """What each counter has more than at the last call."""
        counters = {"filtered": FILTERED, "delivered": DELIVERED, "dead-lettered": DEAD_LETTERED}
        for name, counter in counters.items():
            for metric in counter.collect():
                for sample in metric.samples:
                    if not sample.name.endswith("_total"):
                        continue
                    if name == "filtered" and sample.labels["step"] != "source":
                        continue
                    key = (name, *sample.labels.values())
                    new = int(sample.value - self._told.get(key, 0.0))
                    self._told[key] = sample.value
                    if new:
                        yield name, sample.labels, new
