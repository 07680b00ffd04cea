"""Step 5, the way out: functions over HTTP, topics and brokers, wrapped by policies.

The trigger and the source call `pipeline` (or `open_subscriber` for one bare
attempt) and `DeadLetters`; everything else is how these are made.
"""

from ofevents.subscriber.answer import Answers
from ofevents.subscriber.deadletter import DeadLetters
from ofevents.subscriber.gate import Call, Gate, Observer, Unwatched
from ofevents.subscriber.http import HttpSubscriber, open_http
from ofevents.subscriber.limit import Limit
from ofevents.subscriber.measure import Measure
from ofevents.subscriber.outcome import Exhausted, GivenUp, Postponed, TimedOut
from ofevents.subscriber.pipeline import open_subscriber, pipeline
from ofevents.subscriber.reply import ReplyTo
from ofevents.subscriber.retry import Backoff, Retry
from ofevents.subscriber.sink import SinkSubscriber, build_sink
from ofevents.subscriber.timeout import Timeout
from ofevents.subscriber.topic import TopicSubscriber

__all__ = [
    "Answers",
    "Backoff",
    "Call",
    "DeadLetters",
    "Exhausted",
    "Gate",
    "GivenUp",
    "HttpSubscriber",
    "Limit",
    "Measure",
    "Observer",
    "Postponed",
    "ReplyTo",
    "Retry",
    "SinkSubscriber",
    "TimedOut",
    "Timeout",
    "TopicSubscriber",
    "Unwatched",
    "build_sink",
    "open_http",
    "open_subscriber",
    "pipeline",
]
