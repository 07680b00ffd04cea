"""From MqttSpec to what a connection needs; what is refused, by `ofevents validate` too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from typer.testing import CliRunner

from ofevents.api.messaging import MqttSpec
from ofevents.cli.validate import validate
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceFeatures, SourceIdentity
from ofevents_adapters.mqtt import MqttSource
from ofevents_adapters.mqtt_config import Settings, matches, settings

SHARED = {"topic": "$share/g/a/#", "protocol": "5"}


def spec(**fields: Any) -> MqttSpec:
    return MqttSpec.model_validate({"url": "tcp://a", "topic": "orders/#", **fields})


def read(entry: str = "orders", **fields: Any) -> Settings:
    return settings(spec(**fields), SourceIdentity("default", "shop", "mqtt", entry))


def test_the_defaults() -> None:
    made = read()
    assert (made.host, made.port, made.tls, made.version) == ("a", 1883, None, 4)
    assert made.client_id == "ofevents.default.shop.mqtt.orders"
    assert (made.topic, made.filter, made.qos) == ("orders/#", "orders/#", 1)
    assert (made.username, made.password) == (None, None)
    assert not made.clean and not made.retained and not made.own_session


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("tcp://a", "a", 1883, False),
        ("mqtt://a:1", "a", 1, False),
        ("a:1885", "a", 1885, False),
        (" tcp://a/ ", "a", 1883, False),
        ("ssl://a", "a", 8883, True),
        ("tls://a", "a", 8883, True),
        ("mqtts://[::1]:5", "::1", 5, True),
    ],
)
def test_addresses(url: str, host: str, port: int, tls: bool) -> None:
    made = read(url=url)
    assert (made.host, made.port, made.tls is not None) == (host, port, tls)


def test_a_login_is_in_the_url_or_in_fields_and_never_shown() -> None:
    made = read(url="tcp://ann:geheim%40lang@a:1883")
    assert (made.username, made.password) == ("ann", "geheim@lang")
    assert made.shown == "a:1883"
    assert "geheim" not in repr(made)
    made = read(url="tcp://ann@a", password="p")
    assert (made.username, made.password) == ("ann", "p")
    assert (read(username="u").username, read(username="u").password) == ("u", None)


def test_certificates_are_for_tls() -> None:
    authority = trustme.CA()
    own = authority.issue_cert("me@example.org")
    texts = {
        "caCert": authority.cert_pem.bytes().decode(),
        "clientCert": own.cert_chain_pems[0].bytes().decode(),
        "clientKey": own.private_key_pem.bytes().decode(),
    }
    made = read(url="mqtts://a", **texts).tls
    assert made is not None and len(made.get_ca_certs()) == 1
    assert made.verify_mode == ssl.CERT_REQUIRED and made.check_hostname
    blind = read(url="mqtts://a", insecureSkipVerify=True).tls
    assert blind is not None and blind.verify_mode == ssl.CERT_NONE
    # As OpenFunction's manifests have it: tcp:// is a connection without TLS.
    assert read(caCert="-----BEGIN CERTIFICATE-----").tls is None


def features(**fields: Any) -> SourceFeatures:
    identity = SourceIdentity("default", "shop", "mqtt", "orders")
    return MqttSource(spec(**fields), identity, clock=SystemClock()).features


def test_what_a_source_of_each_mode_promises() -> None:
    def promised(**fields: Any) -> tuple[str, bool, bool]:
        made = features(**fields)
        assert not made.stable_ids  # MQTT has no identities
        return made.guarantee, made.ordered, made.scales

    assert promised() == ("at-least-once", True, False)
    assert promised(qos=2) == ("at-least-once", True, False)
    assert promised(qos=0) == ("at-most-once", True, False)
    assert promised(cleanSession=True) == ("at-most-once", True, False)
    assert promised(**SHARED) == ("at-most-once", False, True)
    assert promised(**SHARED, consumerID="one") == ("at-least-once", False, False)


def test_workers_that_share_a_topic_have_a_session_each() -> None:
    one, two = read(**SHARED), read(**SHARED)
    assert one.client_id != two.client_id and one.clean
    assert one.client_id.startswith("ofevents.default.shop.mqtt.orders.")
    assert (one.topic, one.filter) == ("$share/g/a/#", "a/#")
    own = read(**SHARED, consumerID="mine")
    assert own.client_id == "mine" and not own.clean
    assert read(entry="a b").client_id == read(entry="a b").client_id != read().client_id


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"url": ""}, ".url", "nothing is no address"),
        ({"url": "http://a"}, ".url", "expected tcp://HOST:PORT"),
        ({"url": "tcp://"}, ".url", "no address"),
        ({"url": "tcp://u:geheim@a:x"}, ".url", "a:x is no address"),
        ({"url": "tcp://a:70000"}, ".url", "no address"),
        ({"url": "tcp://a:0"}, ".url", "no address"),
        ({"url": "tcp://a,b"}, ".url", "one address"),
        ({"url": "tcp://a/path"}, ".url", "nothing behind it"),
        ({"url": "wss://a"}, ".url", "WebSockets"),
        ({"url": "tcp://u@a", "username": "v"}, ".username", "the url has a username too"),
        ({"url": "tcp://u:p@a", "password": "q"}, ".password", "the url has a password too"),
        ({"password": "p"}, ".password", "needs a username"),
        ({"username": "x" * 70_000}, ".username", "at most 65535 bytes"),
        ({"url": "mqtts://a", "clientCert": "C"}, ".clientKey", "both"),
        ({"url": "mqtts://a", "clientKey": "K"}, ".clientCert", "both"),
        ({"url": "mqtts://a", "caCert": "no PEM"}, ".caCert", "PEM"),
        ({"url": "mqtts://a", "clientCert": "C", "clientKey": "K"}, "", "clientCert and clientKey"),
        ({"topic": ""}, ".topic", "no topic filter"),
        ({"topic": "a/#/b"}, ".topic", "only at the end"),
        ({"topic": "a/b#"}, ".topic", "only at the end"),
        ({"topic": "a+/b"}, ".topic", "one whole level"),
        ({"topic": "a\x00"}, ".topic", "no topic filter"),
        ({"topic": "$share/g/a"}, ".topic", 'protocol: "5"'),
        ({"topic": "$share/g", "protocol": "5"}, ".topic", "no topic filter"),
        ({"topic": "$share//a", "protocol": "5"}, ".topic", "shares nothing"),
        ({"topic": "$share/+/a", "protocol": "5"}, ".topic", "shares nothing"),
        ({**SHARED, "retain": True}, ".retain", "no retained messages"),
        ({"consumerID": ""}, ".consumerID", "at most 65535 bytes"),
        ({"consumerID": "a\nb"}, ".consumerID", "without control characters"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read(**fields)
    assert caught.value.path == f"spec.mqtt.orders{path}"
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"qos": 3}, {"qos": -1}, {"protocol": "3.1"}, {"topics": "a"}])
def test_the_model_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        spec(**fields)


@pytest.mark.parametrize(
    ("filter", "yes", "no"),
    [
        ("a/b", ["a/b"], ["a", "a/b/c", "a/c", "/a/b"]),
        ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
        ("a/#", ["a", "a/b", "a/b/c"], ["ab", "b/a"]),
        ("#", ["a", "a/b", "/"], ["$SYS/x"]),
        ("+/b", ["a/b", "/b"], ["$SYS/b"]),
        ("$SYS/#", ["$SYS/x"], ["SYS/x"]),
    ],
)
def test_which_topics_match(filter: str, yes: list[str], no: list[str]) -> None:
    assert [topic for topic in yes if not matches(filter, topic)] == []
    assert [topic for topic in no if matches(filter, topic)] == []


def test_validate_knows_the_source_and_finds_a_wrong_combination(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(validate)
    document = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  mqtt:
    orders: {url: "tcp://mosquitto:1883", topic: "orders/#"}
"""
    (tmp_path / "a.yaml").write_text(document)
    good = CliRunner().invoke(app, [str(tmp_path)])
    assert (good.exit_code, good.output) == (0, "all good in 1 file: 1 worker would run\n")
    (tmp_path / "a.yaml").write_text(document.replace("orders/#", "orders/#/x"))
    bad = CliRunner().invoke(app, [str(tmp_path)])
    assert bad.exit_code == 1
    assert "a.yaml:7:" in bad.output and "spec.mqtt.orders.topic" in bad.output
    assert "is no topic filter" in bad.output
