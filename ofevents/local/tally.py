"""What an EventSource's own filter keeps back, which no bus and no Trigger ever sees.

Read off the metrics, as nothing else counts it; shown by `ofevents run` so that a
request that was answered and then seems to vanish is explained.
"""

from __future__ import annotations

from ofevents.telemetry import FILTERED

_WHY = {
    "filter": "its filter does not want",
    "onError": "its filter could not judge (onError: skip)",
}


class Tally:
    """Remembers what was told, and gives what is new."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], float] = {}
        self.news()  # what other runs of this process have counted is no news

    def news(self) -> list[str]:
        """A sentence for each EventSource that filtered events since the last call."""
        sentences = []
        for metric in FILTERED.collect():
            for sample in metric.samples:
                labels = sample.labels
                if not sample.name.endswith("_total") or labels["step"] != "source":
                    continue
                key = (labels["namespace"], labels["name"], labels["reason"])
                new = int(sample.value - self._told.get(key, 0.0))
                self._told[key] = sample.value
                if new:
                    count = "1 event" if new == 1 else f"{new:,} events"
                    why = _WHY.get(key[2], key[2])
                    name = f"{key[0]}/{key[1]}".removeprefix("default/")
                    sentences.append(f"EventSource {name}: {count} received that {why}")
        return sentences
