"""Who may read from NATS, and over which connection: logins, permissions, TLS, WebSockets."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nkeys
import orjson
import pytest
import trustme

from ofevents.api.messaging import NatsSpec
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected
from ofevents_adapters.nats import NatsSource
from tests.conformance.rigs.nats import IDENTITY, STREAM, NatsRig
from tests.servers import free_port
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(120)

SECRET = "geheim-und-lang"


class Keys:
    """A made-up key pair of one of NATS's kinds: `O`, `A` or `U`."""

    def __init__(self, prefix: int, number: int) -> None:
        self.seed = nkeys.encode_seed(bytes([number]) * 32, prefix).decode()
        self.pair = nkeys.from_seed(self.seed.encode())
        self.public = self.pair.public_key.decode()

    def token(self, subject: Keys, kind: str) -> str:
        """A JWT that these keys have signed."""
        claims = {"type": kind, "version": 2}
        body = {"jti": kind, "iat": 1, "iss": self.public, "name": kind, "sub": subject.public}
        if kind == "account":
            claims["limits"] = {"subs": -1, "conn": -1, "data": -1, "payload": -1, "leaf": -1}
        if kind == "user":
            claims |= {"subs": -1, "data": -1, "payload": -1}
        text = ".".join(
            _base64(orjson.dumps(part))
            for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "nats": claims})
        )
        return f"{text}.{_base64(self.pair.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


OPERATOR, ACCOUNT = Keys(nkeys.PREFIX_BYTE_OPERATOR, 1), Keys(nkeys.PREFIX_BYTE_ACCOUNT, 2)
SYSTEM = Keys(nkeys.PREFIX_BYTE_ACCOUNT, 5)
USER, STRANGER = Keys(nkeys.PREFIX_BYTE_USER, 3), Keys(nkeys.PREFIX_BYTE_USER, 4)


def creds(user: Keys, signer: Keys) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{signer.token(user, 'user')}\n------END NATS USER JWT"
        f"------\n\n-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )


def run_once(server: NatsServer, **fields: Any) -> Any:
    """One life of a worker of core NATS, which must end with an error."""
    document = {"url": server.url, "subject": "orders.>", **fields}
    source = NatsSource(NatsSpec.model_validate(document), IDENTITY, clock=SystemClock())
    return source.run(lambda *events: None, store=None, started=lambda address: None)  # type: ignore[arg-type]


LOGINS = {
    "username": (
        f'authorization {{ user: "u", password: "{SECRET}" }}',
        {"username": "u", "password": SECRET},
        {"username": "u", "password": f"not {SECRET}"},
    ),
    "token": (
        f'authorization {{ token: "{SECRET}" }}',
        {"token": SECRET},
        {"token": f"not {SECRET}"},
    ),
    "nkey": (
        f"authorization {{ users: [{{ nkey: {USER.public} }}] }}",
        {"nkey": USER.seed},
        {"nkey": STRANGER.seed},
    ),
    "creds": (
        f"operator: {OPERATOR.token(OPERATOR, 'operator')}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {ACCOUNT.public}: {OPERATOR.token(ACCOUNT, 'account')}, "
        f"{SYSTEM.public}: {OPERATOR.token(SYSTEM, 'account')} }}\n"
        f"system_account: {SYSTEM.public}",
        {"creds": creds(USER, ACCOUNT)},
        {"creds": creds(USER, Keys(nkeys.PREFIX_BYTE_ACCOUNT, 9))},
    ),
}


@pytest.mark.parametrize("form", LOGINS)
async def test_a_login(form: str, tmp_path: Path) -> None:
    config, right, wrong = LOGINS[form]
    async with NatsServer(tmp_path, extra=config) as server:
        with pytest.raises(ConfigError, match="refuses the login") as caught:
            await run_once(server, credentials=wrong)
        assert caught.value.path == "spec.nats.orders.credentials"
        assert SECRET not in str(caught.value)
        with pytest.raises(ConfigError, match="refuses the login"):
            await run_once(server)
        rig = NatsRig(server, 1, credentials=right)
        async with working(rig, Emitted(rig)) as worker:
            await within(lambda: bool(worker.started), "it is let in")


@asynccontextmanager
async def _allowed(tmp_path: Path, **permissions: list[str]) -> AsyncIterator[NatsServer]:
    """A server whose user `u` may do just that, and whose `root` may do everything."""
    users = [
        {"user": "root", "password": SECRET},
        {"user": "u", "password": SECRET, "permissions": permissions},
    ]
    extra = f"authorization {{ users: {orjson.dumps(users).decode()} }}"
    async with NatsServer(tmp_path, extra=extra) as server:
        url = server.url.replace("//", f"//root:{SECRET}@")
        client = await nats.connect(url)
        await client.jetstream().add_stream(name=STREAM, subjects=["orders.>"])
        await client.jetstream().publish("orders.1", b"{}")
        await client.close()
        yield server


@pytest.mark.parametrize(
    ("publish", "subscribe", "fields", "why"),
    [
        ([">"], ["other", "_INBOX.>"], {}, 'Subscription to "orders'),
        (["other"], [">"], {"jetstream": {"stream": STREAM}}, r'Publish to "\$JS.API.CONSUMER'),
        (["$JS.API.>"], [">"], {"jetstream": {"stream": STREAM}}, r'Publish to "\$JS.ACK'),
    ],
)
async def test_what_the_user_may_not_do_is_said(
    tmp_path: Path, publish: list[str], subscribe: list[str], fields: dict[str, Any], why: str
) -> None:
    async with _allowed(tmp_path, publish=publish, subscribe=subscribe) as server:
        rig = NatsRig(
            server, 1, credentials={"username": "u", "password": SECRET}, subject="orders.1"
        )
        rig.fields |= fields
        with pytest.raises(ConfigError, match=f"(?i)refuses: permissions violation for {why}"):
            await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


# -- TLS ----------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def _tls(folder: Path, authority: trustme.CA, *, verify: bool) -> str:
    """The server's block for TLS."""
    folder.mkdir()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(folder / "key.pem")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    files = ", ".join(f'{each}_file: "{folder}/{each}.pem"' for each in ("cert", "key", "ca"))
    return f"tls {{ {files}, verify: {str(verify).lower()}, timeout: 5 }}"


async def test_tls_on_both_sides(tmp_path: Path, authority: trustme.CA) -> None:
    own = authority.issue_cert("reader@example.org")
    ca = authority.cert_pem.bytes().decode()
    tls = {
        "ca": ca,
        "cert": own.cert_chain_pems[0].bytes().decode(),
        "key": own.private_key_pem.bytes().decode(),
    }
    extra = _tls(tmp_path / "tls", authority, verify=True)
    async with NatsServer(tmp_path, extra=extra) as server:
        rig = NatsRig(server, 1, tls=tls)
        async with working(rig, Emitted(rig)) as worker:
            await within(lambda: bool(worker.started), "it is let in")
        stranger = trustme.CA().cert_pem.bytes().decode()
        for refused in ({"ca": stranger}, {}, None):
            with pytest.raises(Disconnected, match="certificate verify failed"):
                await run_once(server, tls=refused)
        with pytest.raises(Disconnected, match="cannot be reached"):
            await run_once(server, tls={"ca": ca})  # without a certificate of its own


async def test_no_secret_goes_over_a_connection_without_the_tls_that_is_asked_for(
    tmp_path: Path,
) -> None:
    extra = f'authorization {{ user: "u", password: "{SECRET}" }}\ntrace: true'
    async with NatsServer(tmp_path, extra=extra) as server:
        login = {"username": "u", "password": SECRET}
        with pytest.raises(ConfigError, match="does not demand TLS") as caught:
            await run_once(server, tls={}, credentials=login)
        assert caught.value.path == "spec.nats.orders.tls"
        assert "[CONNECT" not in server.log.read_text()
        with pytest.raises(ConfigError, match="refuses the login"):
            await run_once(server, credentials={**login, "password": "not it"})
        assert "[CONNECT" in server.log.read_text(), "the server logs what it is told"


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py's
async def test_a_websocket(tmp_path: Path, authority: trustme.CA) -> None:
    port = free_port()
    block = _tls(tmp_path / "tls", authority, verify=False)
    extra = f'websocket {{ host: "127.0.0.1", port: {port}, {block} }}'
    async with NatsServer(tmp_path, extra=extra) as server:
        ca = authority.cert_pem.bytes().decode()
        rig = NatsRig(server, 500, url=f"wss://127.0.0.1:{port}", tls={"ca": ca})
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(5))
        with pytest.raises(Disconnected, match="cannot be reached"):
            await run_once(server, url=f"wss://127.0.0.1:{port}")
