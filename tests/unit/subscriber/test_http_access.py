"""How an HttpSubscriber gets in: auth, OAuth 2, TLS, a proxy. All against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ofevents.api.resolved import HttpAuth, HttpTarget
from ofevents.clock import ManualClock
from ofevents.errors import ConfigError, Misconfigured, Unavailable
from ofevents.subscriber import open_http
from tests.servers.sink import Answer, Certificates, Seen, Sink, TokenServer
from tests.unit.subscriber.rig import OWNER, delivery


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as made:
        yield made


@pytest.fixture
async def token_sink() -> AsyncIterator[Sink]:
    async with Sink(answer=TokenServer("me", "s3cret/+ ü")) as made:
        yield made


def opened(uri: str, clock: ManualClock | None = None, **target: Any) -> Any:
    return open_http(
        HttpTarget(uri=uri, **target), subscriber=OWNER, clock=clock or ManualClock(), timeout=5.0
    )


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (HttpAuth(bearer="b34rer"), "Bearer b34rer"),
        (HttpAuth(basic=("ann", "pä:ss")), "Basic YW5uOnDDpDpzcw=="),
    ],
)
async def test_bearer_and_basic(sink: Sink, auth: HttpAuth, header: str) -> None:
    sink.require = ("authorization", header)
    async with opened(sink.url, auth=auth) as subscriber:
        await subscriber.deliver(delivery())
    async with opened(sink.url) as subscriber:
        with pytest.raises(Misconfigured):
            await subscriber.deliver(delivery())


# -- OAuth 2 ------------------------------------------------------------------


def oauth2(token_sink: Sink, **more: str) -> HttpAuth:
    secret = "s3cret%2F%2B+%C3%BC"  # as RFC 6749 has it: form-encoded, then in Basic
    assert isinstance(token_sink.answer, TokenServer)
    token_sink.answer = TokenServer("me", secret, life=token_sink.answer.life)
    options = {"token_url": f"{token_sink.url}/token", "client_id": "me"}
    return HttpAuth(oauth2={**options, "client_secret": "s3cret/+ ü", **more})


async def test_one_token_serves_many_calls(sink: Sink, token_sink: Sink) -> None:
    auth = oauth2(token_sink, scope="orders.write")
    sink.require = ("authorization", "Bearer token-1")
    async with opened(sink.url, auth=auth) as subscriber, asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(subscriber.deliver(delivery()))
    assert len(sink.seen) == 32
    (asked,) = token_sink.seen
    assert asked.body == b"grant_type=client_credentials&scope=orders.write"


async def test_a_token_is_renewed_before_it_ends(sink: Sink, token_sink: Sink) -> None:
    clock = ManualClock()
    async with opened(sink.url, clock, auth=oauth2(token_sink)) as subscriber:
        for wait in (0.0, 3569.0, 2.0):
            await clock.advance(wait)
            await subscriber.deliver(delivery())
    tokens = [seen.headers["authorization"] for seen in sink.seen]
    assert tokens == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_revoked_token_is_replaced_once(sink: Sink, token_sink: Sink) -> None:
    async with opened(sink.url, auth=oauth2(token_sink)) as subscriber:
        await subscriber.deliver(delivery())
        sink.require = ("authorization", "Bearer token-2")
        await asyncio.gather(*(subscriber.deliver(delivery()) for _ in range(8)))
        assert len(token_sink.seen) == 2, "all calls that were refused share the new token"
        sink.require = ("authorization", "Bearer of nobody")
        with pytest.raises(Misconfigured, match="answered 401"):
            await subscriber.deliver(delivery())
    assert len(token_sink.seen) == 3


async def test_a_revoked_token_is_replaced_for_a_caller_who_waits(
    sink: Sink, token_sink: Sink
) -> None:
    sink.require = ("authorization", "Bearer token-2")
    target = HttpTarget(uri=sink.url, auth=oauth2(token_sink))
    async with open_http(
        target, subscriber=OWNER, clock=ManualClock(), answers="pass"
    ) as subscriber:
        assert (await subscriber.deliver(delivery())).status == 202
        sink.require = ("authorization", "Bearer of nobody")
        assert (await subscriber.deliver(delivery())).status == 401


async def test_no_token(sink: Sink, token_sink: Sink) -> None:
    auth = oauth2(token_sink, client_secret="wr0ng")
    async with opened(sink.url, auth=auth) as subscriber:
        with pytest.raises(Misconfigured, match=r"401 \(invalid_client\): check") as refused:
            await subscriber.deliver(delivery())
        token_sink.answer = Answer(503, (("retry-after", "3"),))
        with pytest.raises(Unavailable, match="answered 503") as failed:
            await subscriber.deliver(delivery())
        token_sink.answer = Answer(200, body=b"<html>")
        with pytest.raises(Misconfigured, match="without an access_token"):
            await subscriber.deliver(delivery())
        await token_sink.stop()
        with pytest.raises(Unavailable, match="no token"):
            await subscriber.deliver(delivery())
    assert "wr0ng" not in str(refused.value)
    assert failed.value.delay == 3.0
    assert sink.seen == [], "no call without a token"


async def test_oauth2_that_is_incomplete() -> None:
    auth = HttpAuth(oauth2={"token_url": "http://host/token", "client_id": "me"})
    with pytest.raises(ConfigError) as caught:
        async with opened("http://host", auth=auth):
            pass
    assert caught.value.path == "sink.auth.oauth2.client_secret"


# -- TLS ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


async def test_a_server_is_trusted_by_its_authority_only(certificates: Certificates) -> None:
    async with Sink(tls=certificates.server()) as sink:
        async with opened(sink.url, ca=certificates.ca) as subscriber:
            await subscriber.deliver(delivery())
        async with opened(sink.url) as subscriber:
            with pytest.raises(Unavailable, match="certificate"):
                await subscriber.deliver(delivery())
        async with opened(sink.url, ca=Certificates().ca) as subscriber:
            with pytest.raises(Unavailable, match="certificate"):
                await subscriber.deliver(delivery())
    assert len(sink.seen) == 1


async def test_a_client_certificate(certificates: Certificates) -> None:
    ours = {"ca": certificates.ca, "cert": certificates.client_cert}
    async with Sink(tls=certificates.server(ask=True)) as sink:
        async with opened(sink.url, **ours, key=certificates.client_key) as subscriber:
            await subscriber.deliver(delivery())
        async with opened(sink.url, ca=certificates.ca) as subscriber:
            with pytest.raises(Unavailable):
                await subscriber.deliver(delivery())
    assert len(sink.seen) == 1


# -- a proxy ------------------------------------------------------------------


async def test_a_proxy(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = sink.url.replace("http://", "http://ann:p4ss@")
    async with opened("http://function.invalid/f", proxy=proxy) as subscriber:
        await subscriber.deliver(delivery())
    (seen,) = sink.seen
    assert seen.url == "http://function.invalid/f"
    assert seen.headers["proxy-authorization"] == "Basic YW5uOnA0c3M="
    monkeypatch.setenv("HTTP_PROXY", sink.url)
    async with opened("http://function.invalid/f") as subscriber:
        with pytest.raises(Unavailable):
            await subscriber.deliver(delivery())
    assert len(sink.seen) == 1, "a proxy of the environment does not count"


async def test_a_redirect_gets_no_second_call(sink: Sink) -> None:
    def react(seen: Seen) -> Answer:
        return Answer(308, (("location", f"{sink.url}/b?token=s3cret"),))

    sink.answer = react
    async with opened(f"{sink.url}/a", auth=HttpAuth(bearer="b34rer")) as subscriber:
        with pytest.raises(Misconfigured, match=r"set sink\.uri") as caught:
            await subscriber.deliver(delivery())
    assert [seen.url for seen in sink.seen] == ["/a"]
    assert "s3cret" not in str(caught.value)
