"""The issuer: its certificate, key and chain, and whether it may sign now.

Reads PEM that somebody else loaded; time is an argument. Invariant: an Issuer value always is a CA certificate with the
ECDSA key that belongs to it; that it chains to the trust roots must be asked for every signature (`check_issuer`),
because time and the roots change under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Longer chains are a loop or a mistake.
_MAX_CHAIN: Final = 8


class IssuerUnusable(Exception):
    """The issuer material cannot be used. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """certificate: signs leaves. intermediates: from its issuer toward the root, roots left out."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a leaf is sent with: the issuer first, toward the root."""
        return (self.certificate, *self.intermediates)

    @property
    def not_after(self) -> datetime:
        """The earliest end in the chain, UTC."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


def issuer_from_pem(certificate_pem: bytes, key_pem: bytes) -> Issuer:
    """Read an issuer: the first certificate signs, the rest lead to the root. Raises IssuerUnusable."""
    certificates = _certificates(certificate_pem, "the issuer certificate")
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IssuerUnusable(f"the issuer key is not an unencrypted PEM key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IssuerUnusable("the issuer key must be ECDSA")
    certificate = certificates[0]
    if certificate.public_key() != key.public_key():
        raise IssuerUnusable("the issuer key does not belong to the issuer certificate")
    _check_is_ca(certificate)
    return Issuer(certificate, key, tuple(c for c in certificates[1:] if c.subject != c.issuer))


def roots_from_pem(bundle_pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read a trust bundle, order kept. Raises IssuerUnusable when it holds no certificate."""
    return _certificates(bundle_pem, "the trust bundle")


def check_issuer(issuer: Issuer, roots: Sequence[x509.Certificate], now: datetime) -> x509.Certificate:
    """The root that the issuer chains to now. Raises IssuerUnusable when there is none. Source: RFC 5280 6.1."""
    current = issuer.certificate
    remaining = list(issuer.intermediates)
    for depth in range(_MAX_CHAIN):
        _check_is_ca(current, below=depth)
        _check_validity(current, now)
        for root in roots:
            if root == current or _is_issued_by(current, root):
                _check_validity(root, now)
                return root
        parent = next((candidate for candidate in remaining if _is_issued_by(current, candidate)), None)
        if parent is None:
            break
        remaining.remove(parent)
        current = parent
    raise IssuerUnusable(f"no trust root has signed {current.subject.rfc4514_string()}")


def key_id(certificate: x509.Certificate) -> str:
    """Hexadecimal subject key identifier, computed when the certificate carries none."""
    try:
        digest = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return digest.hex()


def _certificates(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise IssuerUnusable(f"{what} holds no readable PEM certificate: {error}") from error


def _check_is_ca(certificate: x509.Certificate, below: int = 0) -> None:
    """below: how many CA certificates stand between this one and the leaf."""
    name = certificate.subject.rfc4514_string()
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise IssuerUnusable(f"{name} is not a CA certificate: it has no basic constraints") from error
    if not constraints.ca:
        raise IssuerUnusable(f"{name} is not a CA certificate")
    if constraints.path_length is not None and constraints.path_length < below:
        raise IssuerUnusable(f"{name} does not allow {below} CA certificates below it")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise IssuerUnusable(f"{name} may not sign certificates: its key usage lacks keyCertSign")


def _check_validity(certificate: x509.Certificate, now: datetime) -> None:
    name = certificate.subject.rfc4514_string()
    if now < certificate.not_valid_before_utc:
        raise IssuerUnusable(f"{name} is not valid before {certificate.not_valid_before_utc.isoformat()}")
    if now > certificate.not_valid_after_utc:
        raise IssuerUnusable(f"{name} expired at {certificate.not_valid_after_utc.isoformat()}")


def _is_issued_by(certificate: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
