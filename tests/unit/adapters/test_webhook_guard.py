"""Who may call: each form of auth, as its senders use it, and nothing said of secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest

from ofevents.api.webhook import WebhookAuth
from ofevents.clock import ManualClock
from ofevents_adapters.webhook_guard import Guard, Refused
from tests.unit.adapters.webhooks import NOW, Sink, call, listening

SECRET = "It's a Secret to Everybody"
BODY = b"Hello, World!"
GITHUB = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""The signature of GitHub's documentation for that secret and body."""


def signature(text: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text, getattr(hashlib, algorithm)).digest()


def refusal(auth: dict[str, Any], *headers: tuple[str, str | bytes], body: bytes = BODY) -> str:
    """What a caller is told, "" where it may come in."""
    raw = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    ]
    guard = Guard(WebhookAuth.model_validate(auth), ManualClock(NOW))
    try:
        guard.admit(raw)
        guard.verify(raw, body)
    except Refused as error:
        return str(error)
    return ""


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("auth", "given", "told"),
    [
        ({"bearer": "tök"}, "Bearer tök", ""),
        ({"bearer": "tök"}, "bearer  tök", ""),
        ({"bearer": "tök"}, "Bearer tok", "the token"),
        ({"bearer": "tök"}, "Bearer ", "the token"),
        ({"bearer": "tök"}, b"Bearer \xff", "the token"),
        ({"bearer": "tök"}, basic("a:tök"), "must be Bearer"),
        ({"basic": {"username": "ann", "password": "p:w"}}, basic("ann:p:w"), ""),
        ({"basic": {"username": "ann", "password": "p:w"}}, basic("bob:p:w"), "the user name"),
        ({"basic": {"username": "ann", "password": "p:w"}}, "Basic ?", "the user name"),
        ({"basic": {"username": "ann", "password": "p:w"}}, "ann:p:w", "must be Basic"),
    ],
)
def test_authorization(auth: dict[str, Any], given: str | bytes, told: str) -> None:
    text = refusal(auth, ("Authorization", given))
    assert (told in text) if told else text == ""
    assert "tök" not in text and "p:w" not in text


@pytest.mark.parametrize("form", [{"bearer": "x"}, {"basic": {"username": "a", "password": "b"}}])
def test_authorization_that_is_missing_or_doubled(form: dict[str, Any]) -> None:
    assert "Authorization is missing" in refusal(form)
    twice = [("Authorization", "Bearer x"), ("Authorization", "Bearer x")]
    assert "given twice" in refusal(form, *twice)


def test_github_s_own_example() -> None:
    auth = {"hmac": {"secret": SECRET}}
    assert refusal(auth, ("X-Hub-Signature-256", f"sha256={GITHUB}")) == ""
    assert refusal(auth, ("X-Hub-Signature-256", f"sha256={GITHUB.upper()}")) == ""


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ([], BODY, "X-Hub-Signature-256 with the signature is missing"),
        ([("X-Hub-Signature-256", f"sha256={GITHUB}")], b"Hello", "does not fit the body"),
        ([("X-Hub-Signature-256", GITHUB)], BODY, "no signature that begins 'sha256='"),
        ([("X-Hub-Signature-256", "sha256=")], BODY, "does not fit"),
        ([("X-Hub-Signature-256", b"sha256=\xff")], BODY, "does not fit"),
        ([("X-Hub-Signature-256", f"sha256={GITHUB}")] * 2, BODY, "given twice"),
    ],
)
def test_a_wrong_signature(headers: list[tuple[str, str]], body: bytes, told: str) -> None:
    text = refusal({"hmac": {"secret": SECRET}}, *headers, body=body)
    assert told in text and SECRET not in text and GITHUB not in text


def test_shopify_s_form() -> None:
    auth = {"hmac": {"secret": SECRET, "header": "X-Shopify-Hmac-Sha256", "prefix": "",
                     "encoding": "base64"}}  # fmt: skip
    good = base64.b64encode(signature(BODY)).decode()
    assert refusal(auth, ("X-Shopify-Hmac-Sha256", good)) == ""
    assert "does not fit" in refusal(auth, ("X-Shopify-Hmac-Sha256", good.lower()))


STRIPE = {"hmac": {"secret": SECRET, "header": "Stripe-Signature", "prefix": "v1=",
                   "timestamp": "t"}}  # fmt: skip


def stripe(at: float, *, signed: float | None = None) -> tuple[str, str]:
    stamp = int(at if signed is None else signed)
    good = signature(b"%d.%b" % (stamp, BODY)).hex()
    return ("Stripe-Signature", f"t={int(at)}, v1=00ff, v1={good}, v0=abc")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (stripe(NOW), ""),
        (stripe(NOW - 299), ""),
        (stripe(NOW - 301), "more than 300 s away"),
        (stripe(NOW + 301), "more than 300 s away"),
        (stripe(NOW, signed=NOW - 1), "does not fit"),
        (("Stripe-Signature", "v1=00"), "no timestamp t=<seconds>"),
        (("Stripe-Signature", "t=1,t=2,v1=00"), "no timestamp t=<seconds>"),
        (("Stripe-Signature", "t=" + "9" * 400 + ",v1=00"), "no timestamp t=<seconds>"),
        (("Stripe-Signature", "t=1"), "no signature that begins 'v1='"),
    ],
)
def test_stripe_s_form(header: tuple[str, str], told: str) -> None:
    text = refusal(STRIPE, header)
    assert (told in text) if told else text == ""


def test_every_form_that_is_given_counts() -> None:
    auth = {"bearer": "x", "hmac": {"secret": SECRET}}
    signed = ("X-Hub-Signature-256", f"sha256={GITHUB}")
    assert refusal(auth, ("Authorization", "Bearer x"), signed) == ""
    assert refusal(auth, ("Authorization", "Bearer y"), signed)
    assert refusal(auth, ("Authorization", "Bearer x"))


async def test_a_refusal_is_401_and_nothing_is_emitted() -> None:
    sink = Sink()
    async with listening(sink, auth={"bearer": "x", "hmac": {"secret": SECRET}}) as url:
        missing = await call(url, BODY)
        unsigned = await call(url, BODY, ("Authorization", "Bearer x"))
    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert missing.json == {"error": "the header Authorization is missing; expected Bearer"}
    assert (unsigned.status, sink.calls) == (401, [])
