"""An MQTT message as Events; called once per message by `mqtt_session`.

- **A CloudEvent stays what it is** (promise 3), as the MQTT binding of CloudEvents has
  it: structured (content type `application/cloudevents+json`, or a JSON payload that is
  one, which is all that MQTT 3.1.1 can say), or binary (MQTT 5: its attributes are user
  properties without a prefix). Names as common as `id` and `type` are a claim only
  together with `specversion`.
- **Any other message** becomes type `ofevents.mqtt` with its bytes unchanged and the
  MQTT topic as `subject`. User properties become extensions `mqttproperty<name>`
  (lower-case letters and digits), a retained message has `mqttretained`; the rest are
  the rules of `ofevents.event.record`.
- **A message that claims to be a CloudEvent and is none** becomes a `BrokenEvent` of
  type `ofevents.mqtt.malformed`, which the EventSource dead-letters.

MQTT has no identity for a message: its packet identifiers are used again as soon as
they are acknowledged. The id is random, and `mqtt_session` says how long it stays.
"""

from __future__ import annotations

import re
from typing import Final

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, check_attributes, format_time, from_http, is_json
from ofevents.event.record import CONTROL, broken, embedded, extension, plain
from ofevents_adapters.mqtt_packets import Publish

TYPE: Final = "ofevents.mqtt"
MALFORMED: Final = "ofevents.mqtt.malformed"
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,64}\Z")


def events_of(message: Publish, source: str, id: str, time: float) -> list[Event]:
    """The events of a message, one but for a batch; never fails.

    Args:
        source, id, time: the CloudEvents attributes of a message that is no CloudEvent;
            time in Unix seconds.
    """
    try:
        found = _claimed(message)
    except BadEvent as error:
        return [broken(_attributes(message, source, id, time, MALFORMED), message.payload, error)]
    if found is not None:
        return found
    whole = embedded(message.payload)
    if whole is not None:
        return [whole]
    attributes = _attributes(message, source, id, time, TYPE)
    return [plain(attributes, message.payload, message.content_type)]


def _claimed(message: Publish) -> list[Event] | None:
    """The events of a message that says it holds some; None for one that does not."""
    if message.content_type is not None:
        found = from_http({"content-type": message.content_type}, message.payload)
        if found is not None:
            return found
    if not any(name == "specversion" for name, _ in message.properties):
        return None
    attributes: dict[str, Scalar] = {}
    for name, text in message.properties:
        if _ATTRIBUTE.match(name) is None:
            continue  # no attribute has such a name, so it is something else beside it
        if name in attributes:
            raise BadEvent(f"not a CloudEvent: user property {name} is given twice")
        attributes[name] = text
    if message.content_type is not None:
        attributes["datacontenttype"] = message.content_type
    check_attributes(attributes)
    # No bytes are no JSON value.
    empty = not message.payload and is_json(message.content_type)
    return [Event(attributes, None if empty else message.payload)]


def _attributes(
    message: Publish, source: str, id: str, time: float, kind: str
) -> dict[str, Scalar]:
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "time": format_time(time),
    }
    if message.topic:
        attributes["subject"] = message.topic
    if message.retain:
        attributes["mqttretained"] = True
    for name, text in message.properties:
        extended = extension("mqttproperty", name.lower())
        if extended:
            attributes[extended] = CONTROL.sub(" ", text)
    return attributes
