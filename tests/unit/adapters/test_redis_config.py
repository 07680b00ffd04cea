"""From RedisSpec to what the client is given; what is refused, by `ofevents validate` too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from typer.testing import CliRunner

from ofevents.api.messaging import RedisSpec
from ofevents.cli.validate import validate
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.redis import RedisSource
from ofevents_adapters.redis_config import Settings, settings

IDENTITY = SourceIdentity("default", "shop", "redis", "orders")


def read(**fields: Any) -> Settings:
    return settings(RedisSpec.model_validate({"redisHost": "redis", **fields}), IDENTITY)


def test_the_defaults() -> None:
    made = read()
    assert made.servers == (("redis", 6379),)
    assert (made.stream, made.channel) == ("orders", "")
    assert made.group == "ofevents.default.shop.redis.orders"
    assert made.initial == "0"
    assert (made.username, made.password, made.db, made.tls) == (None, None, 0, None)
    assert (made.processing, made.redeliver, made.dial, made.answer) == (60, 15, 5, 5)
    assert made.sentinel is None and not made.cluster


def test_the_consumer_is_this_machine_over_restarts() -> None:
    assert read().consumer == read().consumer != ""


@pytest.mark.parametrize(
    ("host", "more", "servers", "shown"),
    [
        ("a:1", {}, (("a", 1),), "a:1"),
        ("[::1]:7", {}, (("::1", 7),), "[::1]:7"),
        ("[fe80::1]", {}, (("fe80::1", 6379),), "[fe80::1]:6379"),
        (
            "a, b:2,",
            {"failover": True, "sentinelMasterName": "m"},
            (("a", 26379), ("b", 2)),
            "a:26379, b:2",
        ),
        ("a,b", {"redisType": "cluster"}, (("a", 6379), ("b", 6379)), "a:6379, b:6379"),
    ],
)
def test_addresses(host: str, more: dict[str, Any], servers: Any, shown: str) -> None:
    made = read(redisHost=host, **more)
    assert (made.servers, made.shown) == (servers, shown)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("1m30s", 90), ("2500", 2.5), ("", 60), (None, 60)]
)
def test_durations_in_daprs_forms(text: str | None, seconds: float) -> None:
    assert read(processingTimeout=text).processing == seconds


def test_a_timeout_of_the_client_is_never_switched_off() -> None:
    assert read(readTimeout="-1", dialTimeout="0").answer == 5.0


def test_a_manifest_of_openfunction_with_all_its_fields() -> None:
    made = read(
        redisPassword="p", enableTLS=False, failover=False, sentinelMasterName="", redisType="node",
        redeliverInterval="60s", processingTimeout="15s", redisDB=3, redisMaxRetries=3,
        redisMinRetryInterval="8", redisMaxRetryInterval="512", dialTimeout="5s",
        readTimeout="3s", writeTimeout="3s", poolSize=10, poolTimeout="4s", maxConnAge="0",
        minIdleConns=0, idleCheckFrequency="1m", idleTimeout="5m",
    )  # fmt: skip
    assert (made.password, made.db, made.processing, made.redeliver) == ("p", 3, 15, 60)


def test_secrets_are_not_shown() -> None:
    assert "geheim" not in repr(read(redisPassword="geheim"))


def test_what_a_source_of_each_mode_promises() -> None:
    def features(**fields: Any) -> Any:
        spec = RedisSpec.model_validate({"redisHost": "a", **fields})
        return RedisSource(spec, IDENTITY, clock=SystemClock()).features

    stream, channel = features(), features(channel="c")
    assert (stream.guarantee, stream.stable_ids, stream.scales) == ("at-least-once", True, True)
    assert (channel.guarantee, channel.stable_ids, channel.scales) == ("at-most-once", False, False)
    assert not stream.ordered and channel.ordered


def test_tls_is_wanted_by_either_field() -> None:
    made = read(enableTLS=True).tls
    assert made is not None and made.verify_mode == ssl.CERT_REQUIRED
    ca = trustme.CA().cert_pem.bytes().decode()
    made = read(tls={"ca": ca}).tls
    assert made is not None and len(made.get_ca_certs()) == 1


SENTINEL = {"failover": True, "sentinelMasterName": "m"}


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"redisHost": " , "}, "redisHost", "such as redis:6379"),
        ({"redisHost": "redis://:geheim@a:1"}, "redisHost", "'a:1' is no address; .* without a"),
        ({"redisHost": "a:0"}, "redisHost", "no address"),
        ({"redisHost": "a:65536"}, "redisHost", "no address"),
        ({"redisHost": "::1"}, "redisHost", "no address"),
        ({"redisHost": "a,b"}, "redisHost", "several addresses need"),
        ({"failover": True}, "sentinelMasterName", "the name that the Sentinels know"),
        ({**SENTINEL, "redisType": "cluster"}, "failover", "leave out failover"),
        ({"redisType": "cluster", "redisDB": 1}, "redisDB", "database 0 only"),
        ({"redisType": "nodes"}, "redisType", "expected node or cluster, found 'nodes'"),
        ({"stream": "s", "channel": "c"}, "channel", "exclude each other"),
        ({"stream": ""}, "stream", "is no name"),
        ({"channel": "a\nb"}, "channel", "without control characters"),
        ({"consumerGroup": ""}, "consumerGroup", "is no name"),
        ({"channel": "c", "consumerGroup": "g"}, "consumerGroup", "has no consumer groups"),
        ({"initialId": "first"}, "initialId", r"expected 0 for all entries, \$ for new ones"),
        ({"processingTimeout": "soon"}, "processingTimeout", "expected a duration"),
        ({"processingTimeout": "500ms"}, "processingTimeout", "at least 1 s"),
        ({"processingTimeout": "0"}, "processingTimeout", "at least 1 s"),
        ({"redeliverInterval": "0"}, "redeliverInterval", r"at least 0\.1 s"),
        ({"readTimeout": "100ms"}, "readTimeout", r"at least 0\.5 s"),
        ({"dialTimeout": "5"}, "dialTimeout", r"at least 0\.5 s"),
        ({"tls": {"cert": "C"}}, "tls", "both cert and key"),
        ({"tls": {"ca": "no PEM"}}, "tls", "PEM"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read(**fields)
    assert caught.value.path == f"spec.redis.orders.{path}"
    assert "geheim" not in str(caught.value)


def test_validate_knows_the_source_and_finds_a_wrong_combination(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(validate)
    document = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  redis:
    orders: {redisHost: "redis:6379", stream: orders}
"""
    (tmp_path / "a.yaml").write_text(document)
    good = CliRunner().invoke(app, [str(tmp_path)])
    assert (good.exit_code, good.output) == (0, "all good in 1 file: 1 worker would run\n")
    (tmp_path / "a.yaml").write_text(document.replace("orders}", "orders, channel: c}"))
    bad = CliRunner().invoke(app, [str(tmp_path)])
    assert bad.exit_code == 1
    assert "a.yaml:7:55: error: EventSource default/shop spec.redis.orders.channel" in bad.output
    assert "stream and channel exclude each other" in bad.output
