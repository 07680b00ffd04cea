"""The errors of ofevents: each class says what its catcher should do.

    OfeventsError
     ├── ConfigError            the user must act; trying again changes nothing
     ├── TemporaryError(delay)  try again, not before `delay` seconds
     │    ├── Disconnected      a connection was lost or could not be made
     │    ├── BusFull           the bus refuses: only unsettled events are left
     │    ├── Conflict          the store's entry changed under a compare-and-set
     │    └── Unavailable       a subscriber failed in a way that can heal
     │    │    ├── Misconfigured   it answers 401, 403, 404, 405 or 3xx
     │    │    └── SubscriberAway  nothing gets through to it: only probes are called
     └── PermanentError         give up on this one event: it is dead-lettered
          ├── BadEvent          bytes that are no CloudEvent, or break its rules
          ├── TooLarge          more bytes than the bus or a limit allows
          ├── Rejected          a subscriber refuses the event itself (400, 422, ...)
          └── EvaluationError   an expression failed on this event

Every layer raises these and only these over a port; a driver chains the cause
(`raise Disconnected(...) from error`). Messages are sentences for a person:
which resource, what was expected, what to do. They never contain a secret.
"""

from __future__ import annotations


class OfeventsError(Exception):
    """Root of the tree; nothing raises it itself."""

    reason: str = "Error"
    """CamelCase word for status conditions and metric labels; one per class."""


class ConfigError(OfeventsError):
    """The user's declaration is wrong. Shown without a traceback; exit code 1.

    Args:
        message: one problem, as a sentence.
        path: where in the document, such as `spec.kafka.orders.brokers`.
        where: file and line, such as `shop.yaml:12`, when it is known.
    """

    reason = "Misconfigured"

    def __init__(self, message: str, *, path: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.where = where

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


class TemporaryError(OfeventsError):
    """It can heal. `delay` is the least number of seconds to wait, 0 if not known."""

    reason = "Temporary"

    def __init__(self, message: str, *, delay: float = 0.0) -> None:
        super().__init__(message)
        self.delay = delay


class Disconnected(TemporaryError):
    """A connection is gone. What was in flight is not acknowledged."""

    reason = "Disconnected"


class BusFull(TemporaryError):
    """The bus holds only unsettled events and takes no more; the caller waits."""

    reason = "BusFull"


class Conflict(TemporaryError):
    """A compare-and-set lost: read again, decide again."""

    reason = "Conflict"


class Unavailable(TemporaryError):
    """A subscriber failed: no connection, a timeout, or a status that can heal.

    `status` is the HTTP status, 0 when there was no answer.
    """

    reason = "Unavailable"

    def __init__(self, message: str, *, delay: float = 0.0, status: int = 0) -> None:
        super().__init__(message, delay=delay)
        self.status = status


class Misconfigured(Unavailable):
    """The subscriber says that we call it wrongly: a person must look at it.

    Its events go to the inbox and none is dead-lettered (DESIGN promise 6).
    """

    reason = "SubscriberMisconfigured"


class SubscriberAway(Unavailable):
    """A subscriber that nothing gets through to, by evidence (DESIGN promise 6).

    Its events go to the inbox until a probe is accepted.
    """

    reason = "SubscriberAway"


class PermanentError(OfeventsError):
    """Trying again cannot help: the event goes to the dead letters."""

    reason = "Permanent"


class BadEvent(PermanentError):
    """Not a CloudEvent. The message names the attribute and what was expected."""

    reason = "BadEvent"


class TooLarge(PermanentError):
    """Over a size limit; the message gives both figures in bytes."""

    reason = "TooLarge"


class Rejected(PermanentError):
    """The subscriber refuses this event: 400, 409, 410, 413, 415 or 422."""

    reason = "Rejected"

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class EvaluationError(PermanentError):
    """An expression failed on this event: a missing field, an overflow, a limit."""

    reason = "EvaluationError"
