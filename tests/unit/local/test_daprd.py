"""What a daprd that ended says of it, in one sentence of its log's last error."""

from __future__ import annotations

from pathlib import Path

from ofevents.local.daprd import last_words

_FATAL = (
    'time="2026-11-26T07:14:02Z" level=fatal msg="the runtime: process component ofe-shop error: '
    "[INIT_COMPONENT_FAILURE]: initialization error occurred for ofe-shop (pubsub.kafka/v1): "
    "[INIT_COMPONENT_FAILURE]: initialization error occurred for ofe-shop (pubsub.kafka/v1): "
    'kafka error: missing \'brokers\' in \\"metadata\\"" app_id=shop scope=dapr.runtime ver=1\n'
)


def test_the_reason_is_what_the_component_lacks(tmp_path: Path) -> None:
    log = tmp_path / "daprd.log"
    log.write_text(_FATAL + 'time="2026-11-26T07:14:03Z" level=info msg="stopping"\n')
    assert last_words(log) == "pubsub.kafka/v1: kafka error: missing 'brokers' in \"metadata\""


def test_what_is_not_known_is_told_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "daprd.log"
    log.write_text("flag provided but not defined: -foo\n")
    assert last_words(log) == "flag provided but not defined: -foo"
    log.write_text("")
    assert last_words(log) == ""
