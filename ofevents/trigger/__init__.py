"""Steps 3 to 5 of the data's way: a Trigger reads the bus, decides, and delivers."""

from ofevents.trigger.remove import remove
from ofevents.trigger.trace import Outcome, Trace
from ofevents.trigger.worker import run

__all__ = ["Outcome", "Trace", "remove", "run"]
