"""Keys and certificates of a local cluster: the API server's, the mesh's anchor and issuer, the webhooks'.

All ECDSA P-256. Private keys leave this module as PEM only, for files of mode 0600 and for Secrets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME: Final = timedelta(days=3650)
LEAF_LIFETIME: Final = timedelta(days=365)
# Clocks of machines that share a cluster differ by seconds; an hour costs nothing.
BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate with its key. certificate_pem holds the certificate alone, without its issuers."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def id(self) -> str:
        """SHA-256 over DER, hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def key_pem(self) -> str:
        """PKCS#8, unencrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate_authority(
    name: str, now: datetime, issuer: Credentials | None = None, lifetime: timedelta = CA_LIFETIME
) -> Credentials:
    """A self-signed root, or an intermediate that may sign leaves only when an issuer is given."""
    key = new_key()
    path_length = 1 if issuer is None else 0
    builder = _builder(name, key, issuer, now, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=True), critical=True)
    return Credentials(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def server_certificate(
    issuer: Credentials, names: Sequence[str], addresses: Sequence[str], now: datetime
) -> Credentials:
    """A TLS server certificate for DNS names and IP addresses; the first name is its subject."""
    key = new_key()
    subjects: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    subjects += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = _builder(names[0], key, issuer, now, LEAF_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(subjects), critical=False)
    return Credentials(builder.sign(issuer.key, hashes.SHA256()), key)


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: Credentials | None, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key.public_key() if issuer else key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
