"""Steps 3 to 5 of the data's way: a Trigger reads the bus, decides, and delivers."""

from ofevents.trigger.leavers import Leaver, left_over, retire, strangers
from ofevents.trigger.remove import remove, run_removal
from ofevents.trigger.trace import Outcome, Trace
from ofevents.trigger.worker import run

__all__ = [
    "Leaver",
    "Outcome",
    "Trace",
    "left_over",
    "remove",
    "retire",
    "run",
    "run_removal",
    "strangers",
]
