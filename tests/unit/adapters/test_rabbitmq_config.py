"""From RabbitmqSpec to what a connection needs; what is refused, by `ofevents validate` too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from typer.testing import CliRunner

from ofevents.api.messaging import RabbitmqSpec
from ofevents.cli.validate import validate
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.rabbitmq import RabbitmqSource
from ofevents_adapters.rabbitmq_config import Settings, settings


def read(**fields: Any) -> Settings:
    spec = RabbitmqSpec.model_validate({"url": "amqp://a", **fields})
    return settings(spec, SourceIdentity("default", "shop", "rabbitmq", "orders"))


def test_the_defaults() -> None:
    made = read()
    assert (made.url, made.shown, made.tls) == ("amqp://a", "a:5672", None)
    assert (made.queue, made.exchange, made.routing_key) == ("orders", None, "#")
    assert made.declare and made.prefetch == 100
    features = RabbitmqSource.features
    assert (features.guarantee, features.scales) == ("at-least-once", True)
    assert not features.stable_ids and not features.ordered


def test_what_is_bound() -> None:
    made = read(queue="q", exchange="x", exchangeType="direct", routingKey="")
    assert (made.queue, made.exchange, made.exchange_type, made.routing_key) == (
        "q", "x", "direct", "",
    )  # fmt: skip
    assert read(queue="amq.gen-1", declare=False).queue == "amq.gen-1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:geheim@a:1/shop", "a:1/shop"),
        ("amqp://u:geheim@a/%2F", "a:5672"),
        ("amqp://u:geheim@a/a%2Fb", "a:5672/a/b"),
        (" amqps://u:geheim@[::1]/?heartbeat=5 ", "::1:5671"),
    ],
)
def test_addresses_are_shown_without_their_secrets(url: str, shown: str) -> None:
    made = read(url=url)
    assert (made.url, made.shown) == (url.strip(), shown)
    assert "geheim" not in repr(made)


def test_tls_is_the_addresss() -> None:
    plain = read(url="amqps://a").tls
    assert plain is not None and plain.verify_mode == ssl.CERT_REQUIRED
    authority = trustme.CA()
    own = authority.issue_cert("me@example.org")
    texts = {
        "ca": authority.cert_pem.bytes().decode(),
        "cert": own.cert_chain_pems[0].bytes().decode(),
        "key": own.private_key_pem.bytes().decode(),
    }
    made = read(url="amqps://a", tls=texts).tls
    assert made is not None and len(made.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"url": ""}, ".url", "nothing is no address"),
        ({"url": "rabbitmq:5672"}, ".url", "expected amqp://"),
        ({"url": "http://a"}, ".url", "no address"),
        ({"url": "amqp://"}, ".url", "no address"),
        ({"url": "amqp://u:geheim@a:x"}, ".url", "a:x is no address"),
        ({"url": "amqp://a:70000"}, ".url", "no address"),
        ({"url": "amqp://a:0"}, ".url", "no address"),
        ({"url": "amqp://a,b"}, ".url", "no address"),
        ({"url": "amqp://a/b/c"}, ".url", "written %2F"),
        ({"url": "amqps://a?cafile=/x"}, ".url", "cafile is not read"),
        ({"tls": {}}, ".tls", "needs an amqps:// address"),
        ({"url": "amqps://a", "tls": {"cert": "C"}}, ".tls", "both cert and key"),
        ({"url": "amqps://a", "tls": {"ca": "no PEM"}}, ".tls", "PEM"),
        ({"queue": "a\nb"}, ".queue", "control characters"),
        ({"queue": "x" * 256}, ".queue", "at most 255 bytes"),
        ({"queue": "amq.mine"}, ".queue", "RabbitMQ's own"),
        ({"routingKey": "a"}, ".routingKey", "there is no exchange"),
        ({"exchange": ""}, ".exchange", "default exchange"),
        ({"exchange": "x" * 256}, ".exchange", "at most 255 bytes"),
        ({"exchange": "x", "declare": False}, ".exchange", "nothing is bound"),
        ({"exchange": "x", "routingKey": "x" * 256}, ".routingKey", "at most 255 bytes"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read(**fields)
    assert caught.value.path == f"spec.rabbitmq.orders{path}"
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"prefetch": 0}, {"prefetch": 65_536}, {"exchangeType": "x"}, {"queues": "a"}]
)
def test_the_model_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        read(**fields)


def test_validate_knows_the_source_and_finds_a_wrong_combination(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(validate)
    document = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  rabbitmq:
    orders: {url: "amqp://rabbitmq"}
"""
    (tmp_path / "a.yaml").write_text(document)
    good = CliRunner().invoke(app, [str(tmp_path)])
    assert (good.exit_code, good.output) == (0, "all good in 1 file: 1 worker would run\n")
    (tmp_path / "a.yaml").write_text(document.replace('"}', '", routingKey: a.b}'))
    bad = CliRunner().invoke(app, [str(tmp_path)])
    assert bad.exit_code == 1
    assert "a.yaml:7:" in bad.output and "spec.rabbitmq.orders.routingKey" in bad.output
    assert "there is no exchange" in bad.output


def test_a_source_is_built_without_connecting() -> None:
    spec = RabbitmqSpec.model_validate({"url": "amqp://nowhere.invalid"})
    RabbitmqSource(spec, SourceIdentity("a", "b", "rabbitmq", "c"), clock=SystemClock())
