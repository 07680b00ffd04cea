"""Step 2 and 3 of the data's way: the EventBus drivers and the names on them."""

from ofevents.bus.open import open_bus

__all__ = ["open_bus"]
