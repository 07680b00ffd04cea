"""How a call to a subscriber ends when it does not simply succeed.

Raised by the wrappers of this package and caught by the next one out: `Retry`
raises `GivenUp` for the dead letters, and `Postponed` for the trigger, which puts
the delivery into the subscriber's inbox. The source, which has no inbox, waits.
"""

from __future__ import annotations

from ofevents.errors import OfeventsError, PermanentError, TemporaryError, Unavailable
from ofevents.ports import Delivery


class TimedOut(Unavailable):
    """No answer within the subscriber's timeout; whether it acted is not known."""

    reason = "TimedOut"


class Postponed(TemporaryError):
    """The next call is not due now: whoever holds the event should let go of it.

    Attributes:
        delivery: as given, with `attempt` and `due` brought up to date.
        reason: why, as in `OfeventsError.reason`; `SubscriberAway` when the gate says so.
        error: the last failure, Misconfigured among them.
    """

    def __init__(self, delivery: Delivery, reason: str, error: Unavailable, delay: float) -> None:
        super().__init__(str(error), delay=delay)
        self.delivery = delivery
        self.reason = reason
        self.error = error


class GivenUp(PermanentError):
    """No further call will be made. Its text and `reason` are the last error's.

    Attributes:
        delivery: as given, `attempt` counting every call that failed.
        error: the last error.
    """

    def __init__(self, delivery: Delivery, error: OfeventsError, message: str = "") -> None:
        super().__init__(message or str(error))
        self.delivery = delivery
        self.error = error
        self.reason = error.reason


class Exhausted(GivenUp):
    """`retries` are used up and the subscriber is not away: the event is poison."""

    def __init__(self, delivery: Delivery, error: Unavailable) -> None:
        super().__init__(delivery, error, f"gave up after {delivery.attempt} calls: {error}")
        self.reason = "RetriesExhausted"
