"""Certificates and requests for tests, made on the spot."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from weft_identity.core.issuer import Issuer

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
CertifiedKey = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def name(common_name: str) -> x509.Name:
    # Mesh identities exceed the 64 characters of X.520, which the library warns about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)])


def make_ca(
    common_name: str,
    parent: CertifiedKey | None = None,
    *,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=365),
    is_ca: bool = True,
    path_length: int | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> CertifiedKey:
    key = key or ec.generate_private_key(ec.SECP256R1())
    issuer_name, issuer_key = (parent[0].subject, parent[1]) if parent else (name(common_name), key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA256()), key


def rsa_ca(common_name: str, parent: CertifiedKey, bits: int) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(65537, bits)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(parent[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(parent[1], hashes.SHA256()), key


def issuer_of(made: CertifiedKey, *intermediates: x509.Certificate) -> Issuer:
    return Issuer(made[0], made[1], intermediates)


def make_csr(
    *names: x509.GeneralName, common_name: str | None = None, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        name(common_name) if common_name is not None else x509.Name([])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def csr_for(identity: str) -> bytes:
    return make_csr(x509.DNSName(identity), common_name=identity, key=None)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
