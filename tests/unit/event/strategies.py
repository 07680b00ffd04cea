"""Events as anybody may send them: any attribute text, any bytes as data."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from ofevents.event import Event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
NAMES = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: (
        name not in ("id", "source", "type", "specversion", "data", "time", "datacontenttype")
    )
)
TIMES = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.just(""),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
JSON_TEXTS = st.builds(
    lambda value, indent, ascii: json.dumps(
        value, indent=indent, ensure_ascii=ascii, allow_nan=False
    ).encode(),
    JSON_VALUES,
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
BROKEN = st.binary(min_size=1, max_size=60).map(bytes.strip).filter(bool)
"""It may happen to be JSON, and whitespace around that is no part of a JSON document's value."""
JSON_TYPES = st.sampled_from(["application/json", "application/vnd.x+json; charset=utf-8"])
OTHER_TYPES = st.sampled_from(["text/plain", "TEXT/html; charset=latin-1", "image/png", "x/y"])


@st.composite
def events(draw: st.DrawFn, scalars: bool = True) -> Event:
    """An event with data of every sort; `scalars` allows integers and booleans."""
    value = TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans() if scalars else TEXT
    attributes: dict[str, Any] = draw(st.dictionaries(NAMES, value, max_size=4))
    for name in ("subject", "dataschema"):
        attributes.pop(name, None)
    attributes |= {"specversion": "1.0", "id": draw(TEXT), "source": draw(TEXT), "type": draw(TEXT)}
    if draw(st.booleans()):
        attributes["time"] = draw(TIMES)
    kind = draw(st.sampled_from(["json", "broken", "other", "none"]))
    if kind == "none":
        return Event(attributes, None)
    if kind == "other":
        attributes["datacontenttype"] = draw(OTHER_TYPES)
        return Event(attributes, draw(st.binary(max_size=60) | TEXT.map(str.encode)))
    attributes["datacontenttype"] = draw(JSON_TYPES)
    return Event(attributes, draw(JSON_TEXTS if kind == "json" else BROKEN))
