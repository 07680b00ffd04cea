"""The certificate of the admission webhook: made once, kept in a Secret, shared by all.

Every controller serves admission, whoever leads, so they present one certificate; the API
server trusts the authority beside it. It is made anew when a third of its time is left.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ofevents.cluster import kinds
from ofevents.cluster.client import Api
from ofevents.errors import ConfigError, Conflict

_LIFE: Final = timedelta(days=3 * 365)
_CA: Final = "ca.crt"
_CERT: Final = "tls.crt"
_KEY: Final = "tls.key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts."""

    ca: str
    cert: str
    key: str


async def certificate(api: Api, namespace: str, name: str, host: str, now: float) -> Certificate:
    """The one in that Secret, made if it is missing or nearly over.

    Raises:
        ConfigError: the extra `controller` is not installed.
    """
    while True:
        found = await api.get(kinds.SECRET, namespace, name)
        if found is not None and (one := _read(found, host, now)) is not None:
            return one
        fresh = _make(host, now)
        manifest = _manifest(fresh, namespace, name, found)
        try:
            if found is None:
                await api.create(kinds.SECRET, manifest)
            else:
                await api.patch(kinds.SECRET, namespace, name, manifest)
        except Conflict:
            continue  # Another controller was faster: take its.
        return fresh


def _read(secret: dict[str, Any], host: str, now: float) -> Certificate | None:
    from cryptography import x509

    data = secret.get("data") or {}
    try:
        texts = [base64.b64decode(data[name]).decode() for name in (_CA, _CERT, _KEY)]
        parsed = x509.load_pem_x509_certificate(texts[1].encode())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyError, ValueError, x509.ExtensionNotFound):
        return None
    left = parsed.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
    if left < _LIFE / 3 or host not in names.get_values_for_type(x509.DNSName):
        return None
    return Certificate(*texts)


def _make(host: str, now: float) -> Certificate:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise ConfigError("admission needs: pip install 'ofevents[controller]'") from error
    begin = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
    authority_key, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ofevents admission")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])

    def builder(name: x509.Name, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + _LIFE)
        )

    ca = (
        builder(authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName(host), x509.DNSName("localhost")]
    cert = (
        builder(subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(
        ca.public_bytes(encoding).decode(), cert.public_bytes(encoding).decode(), private.decode()
    )


def _manifest(
    one: Certificate, namespace: str, name: str, found: dict[str, Any] | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": namespace, "name": name}
    if found is not None:
        metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
    texts = {_CA: one.ca, _CERT: one.cert, _KEY: one.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()},
    }
