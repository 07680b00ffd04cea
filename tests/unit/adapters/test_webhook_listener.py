"""Listeners: shared by entries, refused by name, free again at the end, and TLS."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from ofevents.errors import ConfigError
from tests.servers import free_port
from tests.unit.adapters.webhooks import Sink, call, listening, make, running


async def test_entries_share_a_port() -> None:
    port, one, other = free_port(), Sink(), Sink()
    async with running(make(entry="one", port=port), one) as first:
        async with running(make(entry="other", port=port), other) as second:
            assert (await call(first)).status == (await call(second)).status == 202
        assert (await call(second)).status == 404
        assert (await call(first)).status == 202
    assert (len(one.calls), len(other.calls)) == (2, 1)


async def test_entries_that_start_together_share_a_port_too() -> None:
    port = free_port()
    sources = [make(entry=f"e{number}", port=port) for number in range(5)]
    sinks = [Sink() for _ in sources]

    async def use(number: int) -> int:
        async with running(sources[number], sinks[number]) as url:
            return (await call(url)).status

    assert await asyncio.gather(*map(use, range(5))) == [202] * 5


async def test_one_path_belongs_to_one_entry() -> None:
    port = free_port()
    async with running(make(name="a", entry="x", port=port, path="/in"), Sink()) as url:
        with pytest.raises(ConfigError) as caught:
            async with running(make(name="b", entry="y", port=port, path="/in"), Sink()):
                pass
        assert (await call(url)).status == 202
    assert str(caught.value) == (
        f"webhook y of EventSource b cannot have http://127.0.0.1:{port}/in: it belongs to "
        "webhook x of EventSource a; give one of them another path or port"
    )


async def test_a_port_in_use_names_the_entry_and_says_how_to_find_the_holder() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConfigError) as caught:
        async with listening(Sink(), port=port):
            pass
    server.close()
    text = str(caught.value)
    assert text.startswith(f"webhook in of EventSource hooks cannot listen on 127.0.0.1:{port}: ")
    assert f"ss -ltnp 'sport = :{port}'" in text


async def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        async with listening(Sink(), host="192.0.2.1"):
            pass


async def test_a_port_is_free_again_at_the_end_and_can_be_had_at_once() -> None:
    port = free_port()
    for _ in range(3):
        async with listening(Sink(), port=port) as url:
            assert (await call(url)).status == 202


async def test_a_new_entry_waits_for_the_old_one_to_leave() -> None:
    port, sink = free_port(), Sink(held=asyncio.Event())
    new = make(entry="new", port=port)
    async with running(make(entry="old", port=port), sink) as url:
        waiting = asyncio.ensure_future(call(url))
        await sink.called.wait()
        asyncio.get_running_loop().call_later(0.3, sink.held.set)  # type: ignore[union-attr]
    async with running(new, Sink()) as url:
        assert (await call(url)).status == 202
    assert (await waiting).status == 202


@pytest.fixture(scope="module")
def pem() -> dict[str, str]:
    """A self-made certificate for 127.0.0.1, and its authority."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    chain = "".join(one.bytes().decode() for one in made.cert_chain_pems)
    return {
        "cert": chain,
        "key": made.private_key_pem.bytes().decode(),
        "ca": authority.cert_pem.bytes().decode(),
    }


def pair(pem: dict[str, str]) -> dict[str, str]:
    return {name: pem[name] for name in ("cert", "key")}


async def test_https(pem: dict[str, str]) -> None:
    sink = Sink()
    async with listening(sink, tls=pair(pem)) as url:
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cadata=pem["ca"])
        assert (await call(url, b"{}", context=trusting)).status == 202
    assert sink.event.data == b"{}"


async def test_entries_of_one_port_have_one_certificate(pem: dict[str, str]) -> None:
    port = free_port()
    async with listening(Sink(), port=port, entry="a"):
        with pytest.raises(ConfigError, match="must have the same tls"):
            async with listening(Sink(), port=port, entry="b", tls=pair(pem)):
                pass


@pytest.mark.parametrize("change", [{"key": "nonsense"}, {"cert": "nonsense"}, {"cert": ""}])
async def test_what_is_no_certificate_is_refused(
    pem: dict[str, str], change: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="no certificate chain and its private key") as caught:
        async with listening(Sink(), tls={**pair(pem), **change}):
            pass
    assert "BEGIN" not in str(caught.value)
