"""From NatsSpec to what the client is given; what is refused, by `ofevents validate` too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from typer.testing import CliRunner

from ofevents.api.messaging import NatsSpec
from ofevents.cli.validate import validate
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.nats import NatsSource
from ofevents_adapters.nats_config import Settings, settings

SEED = "SU" + "A" * 56
CREDS = "-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\ny\n"
S = {"stream": "S"}


def spec(**fields: Any) -> NatsSpec:
    given = {"url": "nats://a", **fields}
    if not {"subject", "subjects", "jetstream"} & fields.keys():
        given["subject"] = "orders.>"
    return NatsSpec.model_validate(given)


def read(name: str = "shop", entry: str = "orders", **fields: Any) -> Settings:
    return settings(spec(**fields), SourceIdentity("default", name, "nats", entry))


def test_the_defaults() -> None:
    made = read()
    assert made.servers == ("nats://a",)
    assert made.subjects == ("orders.>",)
    assert made.queue == "ofevents.default.shop.nats.orders"
    assert made.durable == "ofevents~default~shop~nats~orders"
    assert made.login == {} and made.tls is None


def test_names_of_entries_never_meet() -> None:
    assert read(entry="a b").queue == "ofevents.default.shop.nats.a%20b"
    names = ["a.b", "a~b", "a b", "x" * 300, "x" * 299 + "y"]
    durables = {read(entry=name).durable for name in names}
    assert len(durables) == len(names)
    for one in durables:
        assert len(one) <= 200 and not set(one) & set(". *>/\\")


def test_several_servers_and_their_secrets_are_not_shown() -> None:
    made = read(url="nats://u:geheim@a:4222, b:4223,")
    assert made.servers == ("nats://u:geheim@a:4222", "nats://b:4223")
    assert made.shown == "a:4222, b:4223"


def test_what_a_source_of_each_mode_promises() -> None:
    def features(**fields: Any) -> Any:
        identity = SourceIdentity("default", "shop", "nats", "orders")
        return NatsSource(spec(**fields), identity, clock=SystemClock()).features

    assert features().guarantee == "at-most-once"
    assert not features().stable_ids
    stream = features(jetstream=S)
    assert (stream.guarantee, stream.stable_ids, stream.ordered) == ("at-least-once", True, False)
    assert features(jetstream={**S, "maxAckPending": 1}).ordered


@pytest.mark.parametrize(
    ("credentials", "login"),
    [
        ({"username": "u", "password": "p"}, {"user": "u", "password": "p"}),
        ({"token": "t"}, {"token": "t"}),
        ({"nkey": f" {SEED}\n"}, {"nkeys_seed_str": SEED}),
    ],
)
def test_logins(credentials: dict[str, str], login: dict[str, str]) -> None:
    made = read(credentials=credentials)
    assert made.login == login
    assert not any(secret in repr(made) for secret in credentials.values() if len(secret) > 5)
    assert "user_credentials" in read(credentials={"creds": CREDS}).login


def test_tls_turns_the_scheme_and_carries_its_material() -> None:
    made = read(url="nats://a,b", tls={})
    assert made.servers == ("tls://a", "tls://b")
    assert made.tls is not None and made.tls.verify_mode == ssl.CERT_REQUIRED
    assert read(url="tls://a").tls is not None
    assert read(url="ws://a", tls={}).servers == ("wss://a",)
    blind = read(tls={"insecureSkipVerify": True}).tls
    assert blind is not None and blind.verify_mode == ssl.CERT_NONE
    authority = trustme.CA()
    own = authority.issue_cert("me@example.org")
    texts = {
        "ca": authority.cert_pem.bytes().decode(),
        "cert": own.cert_chain_pems[0].bytes().decode(),
        "key": own.private_key_pem.bytes().decode(),
    }
    made = read(tls=texts)
    assert made.tls is not None and len(made.tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"subjects": []}, "", "nothing is read"),
        ({"subject": "a", "subjects": ["b"]}, ".subjects", "exclude each other"),
        ({"subject": "a b"}, ".subject", "is no subject"),
        ({"subject": "a..b"}, ".subject", "is no subject"),
        ({"subject": "a.>.b"}, ".subject", "only at the end"),
        ({"subjects": ["a.*", "a.b"]}, ".subjects", "overlap"),
        ({"subjects": ["a.>", "b", "a.b.c"]}, ".subjects", "overlap"),
        ({"queue": "a b"}, ".queue", "no queue group"),
        ({"queue": ""}, ".queue", "no queue group"),
        ({"jetstream": S, "queue": "q"}, ".queue", "durable"),
        ({"jetstream": {"stream": "a.b"}}, ".jetstream.stream", "is no stream"),
        ({"jetstream": {**S, "durable": "a b"}}, ".jetstream.durable", "is no durable"),
        ({"jetstream": {**S, "ackWait": "500ms"}}, ".jetstream.ackWait", "at least 1s"),
        ({"url": " , "}, ".url", "expected an address"),
        ({"url": "http://a"}, ".url", "no address"),
        ({"url": "nats://"}, ".url", "no address"),
        ({"url": "nats://a:x"}, ".url", "no address"),
        ({"url": "nats://a,ws://b"}, ".url", "WebSockets"),
        ({"credentials": {}}, ".credentials", "found none"),
        (
            {"credentials": {"token": "t", "nkey": SEED}},
            ".credentials",
            "found token, nkey",
        ),
        ({"credentials": {"username": "u"}}, ".credentials", "both username and password"),
        ({"credentials": {"nkey": "UAAA"}}, ".credentials.nkey", "beginning with SU"),
        ({"credentials": {"creds": "x"}}, ".credentials.creds", r"\.creds file"),
        ({"tls": {"cert": "C"}}, ".tls", "both cert and key"),
        ({"tls": {"ca": "no PEM"}}, ".tls", "PEM"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read(**fields)
    assert caught.value.path == f"spec.nats.orders{path}"


def test_subjects_that_do_not_overlap_are_taken() -> None:
    subjects = ["a.*", "a.b.c", "b", "a.*.d"]
    assert read(subjects=subjects).subjects == tuple(subjects)
    assert read(jetstream=S).subjects == ()


def test_validate_knows_the_source_and_finds_a_wrong_combination(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(validate)
    document = """\
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  nats:
    orders: {url: "nats://nats:4222", jetstream: {stream: ORDERS}}
"""
    (tmp_path / "a.yaml").write_text(document)
    good = CliRunner().invoke(app, [str(tmp_path)])
    assert (good.exit_code, good.output) == (0, "all good in 1 file: 1 worker would run\n")
    (tmp_path / "a.yaml").write_text(document.replace("ORDERS}", "ORDERS}, queue: q"))
    bad = CliRunner().invoke(app, [str(tmp_path)])
    assert bad.exit_code == 1
    assert "a.yaml:7:68: error: EventSource default/shop spec.nats.orders.queue" in bad.output
    assert "queue is core NATS's" in bad.output
