"""What an expression sees of an event; made by `Event.view`, read by the CEL engine."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ofevents.errors import BadEvent, EvaluationError
from ofevents.event.rules import parse_time

if TYPE_CHECKING:
    from ofevents.event.value import Event


class EventView(dict[str, Any]):
    """What an expression sees as `event`: the attributes, `data` and `time`.

    `data` and `time` are decoded when they are first read. Reading data that
    does not parse raises EvaluationError, as any failed expression does.
    """

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        super().__init__(event.attributes)
        self._event = event
        self.pop("time", None)

    def __missing__(self, key: str) -> Any:
        value: Any
        if key == "data" and self._event.data is not None:
            value = self._event.value
        elif key == "time" and "time" in self._event.attributes:
            value = self._time()
        else:
            raise KeyError(key)
        self[key] = value
        return value

    def _time(self) -> datetime:
        try:
            return parse_time(str(self._event.attributes["time"]))
        except BadEvent as error:
            raise EvaluationError(str(error)) from error

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        if key == "data":
            return self._event.data is not None
        return key == "time" and "time" in self._event.attributes

    def _whole(self) -> dict[str, Any]:
        """Everything decoded, for who reads the event as one value."""
        for key in ("data", "time"):
            self.get(key)
        return {key: dict.__getitem__(self, key) for key in dict.keys(self)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def __eq__(self, other: object) -> bool:
        return self._whole() == other

    def __ne__(self, other: object) -> bool:
        # A dict has its own, which would not ask __eq__.
        return not self == other

    __hash__ = None  # as every dict

    def keys(self) -> KeysView[str]:  # type: ignore[override] # a dict's own is a subclass
        return self._whole().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override] # as keys
        return self._whole().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override] # as keys
        return self._whole().items()

    def get(self, key: str, default: Any = None) -> Any:
        # dict.get would not ask __missing__.
        return self[key] if key in self else default  # noqa: SIM401
