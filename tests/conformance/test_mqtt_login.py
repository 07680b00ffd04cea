"""Who may read from an MQTT broker, and over which connection: logins and TLS."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ofevents.conformance.source_rig import Emitted, working
from ofevents.errors import ConfigError, Disconnected
from tests.conformance.rigs.mqtt import MqttRig
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(120)

SECRET = "geheim und lang"


async def once(rig: MqttRig) -> None:
    """One life of a worker, which must end with an error."""
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """A broker with one user, `ann`."""
    salt = b"twelve bytes"
    digest = base64.b64encode(hashlib.sha512(SECRET.encode() + salt).digest()).decode()
    users = tmp_path / "users"
    users.write_text(f"ann:$6${base64.b64encode(salt).decode()}${digest}\n")
    users.chmod(0o600)
    extra = f"allow_anonymous false\npassword_file {users}"
    async with Mosquitto(tmp_path / "broker", extra=extra) as server:
        yield server


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_login(guarded: Mosquitto, protocol: str) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"username": "ann", "password": f"not {SECRET}"},
        {"username": "bob", "password": SECRET},
    ]
    for fields in wrong:
        with pytest.raises(ConfigError, match="refuses the login: ") as caught:
            await once(MqttRig(guarded, protocol=protocol, **fields))
        assert caught.value.path == "spec.mqtt.orders.username"
        assert SECRET not in str(caught.value)
    in_url = guarded.url.replace("//", f"//ann:{SECRET.replace(' ', '%20')}@")
    for fields in ({"username": "ann", "password": SECRET}, {"url": in_url}):
        rig = MqttRig(guarded, protocol=protocol, **fields)
        rig.options["login"] = ("ann", SECRET)
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(2))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_tls_on_both_sides(tmp_path: Path, authority: trustme.CA, protocol: str) -> None:
    own, mine = authority.issue_cert("127.0.0.1"), authority.issue_cert("reader@example.org")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    listener = "\n".join(
        (f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem",
         f"cafile {tmp_path}/ca.pem", "require_certificate true")
    )  # fmt: skip
    ca = authority.cert_pem.bytes().decode()
    texts = {
        "protocol": protocol,
        "clientCert": mine.cert_chain_pems[0].bytes().decode(),
        "clientKey": mine.private_key_pem.bytes().decode(),
    }
    async with Mosquitto(tmp_path / "broker", listener=listener) as server:
        plain, server.url = server.url, server.url.replace("tcp:", "mqtts:")
        rig = MqttRig(server, caCert=ca, **texts)
        context = ssl.create_default_context(cadata=ca)
        mine.configure_cert(context)
        rig.options["tls"] = context
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(30))
        stranger = trustme.CA().cert_pem.bytes().decode()
        for fields in ({"caCert": stranger}, {}):
            with pytest.raises(Disconnected, match="certificate verify failed"):
                await once(MqttRig(server, **fields, **texts))
        with pytest.raises(Disconnected):  # without a certificate of its own
            await once(MqttRig(server, caCert=ca, protocol=protocol))
        blind = MqttRig(server, insecureSkipVerify=True, **texts)
        async with working(blind, Emitted(blind)):
            pass
        with pytest.raises(Disconnected, match=r"lost|cannot be reached"):
            await once(MqttRig(server, url=plain, protocol=protocol))
