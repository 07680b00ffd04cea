"""Whatever stands in a document, reading and resolving it ends in problems, not in a traceback."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofevents.resolve import load, resolve

from .sets import resource

GOOD = resource(
    "EventSource",
    "shop",
    """
eventBus: default
sink: {ref: {apiVersion: v1, kind: Service, name: fn}, auth: {bearer: x}, headers: {a: b}}
delivery: {timeout: 5s, rateLimit: 5/s, batch: {size: 5}}
allowNamespaces: [a]
kafka: {k: {brokers: a, saslPassword: {valueFrom: {secretKeyRef: {name: s, key: k}}}}}
cron: {c: {schedule: "@daily", data: {a: [1]}}}
webhook: {w: {auth: {hmac: {secret: x}}, attributes: {type: "'a'"}, dataSchema: {type: object}}}
""",
) + "---\n" + resource(
    "Trigger",
    "t",
    """
eventBus: default
inputs: {orders: {eventSource: shop, event: k, filter: event.type == 'a'}, m: {topic: x}}
subscribers:
- {name: a, topic: y, condition: orders && m, payload: event.data, delivery: {ordered: true}}
- {sink: {uri: "http://x"}, deadLetterTopic: z, reply: r}
""",
) + "---\n" + resource(
    "EventBus", "default", "jetstream: {maxAge: 1d, credentials: {token: a}}"
) + "---\n" + "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n"  # fmt: skip
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(GOOD))

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 99999), st.floats(allow_nan=False),
    st.text(max_size=12), st.sampled_from(["5s", "1Gi", "event", "orders", "http://x", "@hourly"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["name", "topic"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, each in value.items() if isinstance(value, dict) else ():
        found += _places(each, (*path, key))
    return found


PLACES = [path for path in _places(DOCUMENTS) if len(path) > 1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_document_ends_in_problems(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    documents: Any = copy.deepcopy(DOCUMENTS)
    for path, value in changes:
        holder = documents
        try:
            for part in path[:-1]:
                holder = holder[part]
            holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.yaml")
        file.write_text(yaml.safe_dump_all(documents, allow_unicode=True), encoding="utf-8")
        resolution = resolve(load([file]))
    for problem in resolution.problems:
        assert problem.line > 0, problem
        assert problem.sentence
        assert not problem.message.startswith("Value error")
