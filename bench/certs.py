"""Throw-away certificates: one authority, and leaves for the peers that read theirs from files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CLIENT_NAME: Final = "client.shop.serviceaccount.identity.linkerd.cluster.local"
SERVER_NAME: Final = "web.shop.serviceaccount.identity.linkerd.cluster.local"
_AUTHORITY: Final = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root.linkerd.cluster.local")])


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _template(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
    )


def make_certificates(folder: Path) -> str:
    """ca, client and server as .crt and .key in the folder; returns the trust anchor as PEM text."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    root = _template(_AUTHORITY, root_key).add_extension(constraints, critical=True).sign(root_key, hashes.SHA256())
    _write(folder, "ca", root, root_key)
    for name, identity in (("client", CLIENT_NAME), ("server", SERVER_NAME)):
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(identity)])
        leaf = _template(x509.Name([]), key).add_extension(names, critical=True).sign(root_key, hashes.SHA256())
        _write(folder, name, leaf, key)
    return (folder / "ca.crt").read_text()
