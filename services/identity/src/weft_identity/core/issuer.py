"""The issuer: its certificate, key and chain, and whether it may sign now.

Reads PEM that somebody else loaded; time is an argument. Invariant: an Issuer value always is a CA certificate with
the key that belongs to it. Signatures between an issuer and its roots never change, so `paths_to_roots` checks them
once for each pair of issuer and bundle; time does, so `anchor_now` is asked for every signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

# Longer chains are a loop or a mistake.
_MAX_CHAIN: Final = 8
# What proxies verify in a chain (wire.md 4.4): ECDSA P-256, P-384, P-521, RSA PKCS#1 from 2048 bits.
_MIN_RSA_BITS: Final = 2048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

IssuerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Path = tuple[x509.Certificate, ...]


class IssuerUnusable(Exception):
    """The issuer material cannot be used. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """certificate: signs leaves. intermediates: from its issuer toward the root, roots left out."""

    certificate: x509.Certificate
    key: IssuerKey
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
        # The library's text could quote what it failed to read, and that is a key.
        raise IssuerUnusable("the issuer key is not an unencrypted PEM key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise IssuerUnusable("the issuer key must be ECDSA or RSA")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA_BITS:
        raise IssuerUnusable(f"the issuer key has {key.key_size} bits; an RSA key needs {_MIN_RSA_BITS}")
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, _CURVES):
        raise IssuerUnusable(f"the issuer key is on {key.curve.name}; use P-256, P-384 or P-521")
    certificate = certificates[0]
    if certificate.public_key() != key.public_key():
        raise IssuerUnusable("the issuer key does not belong to the issuer certificate")
    _check_is_ca(certificate)
    return Issuer(certificate, key, tuple(c for c in certificates[1:] if c.subject != c.issuer))


def roots_from_pem(bundle_pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read a trust bundle, order kept. Raises IssuerUnusable when it holds no certificate."""
    return _certificates(bundle_pem, "the trust bundle")


def paths_to_roots(issuer: Issuer, roots: Sequence[x509.Certificate]) -> tuple[Path, ...]:
    """Every way from the issuer to a root, both ends included, whatever the time. Source: RFC 5280 6.1.

    Raises IssuerUnusable when there is none, or when a certificate in between may not stand there.
    """
    current = issuer.certificate
    remaining = list(issuer.intermediates)
    path: list[x509.Certificate] = []
    found: list[Path] = []
    for depth in range(_MAX_CHAIN):
        _check_is_ca(current, below=depth)
        path.append(current)
        found += [tuple(path) for root in roots if root == current]
        found += [(*path, root) for root in roots if root != current and _is_issued_by(current, root)]
        parent = next((candidate for candidate in remaining if _is_issued_by(current, candidate)), None)
        if parent is None or found:
            break
        remaining.remove(parent)
        current = parent
    if not found:
        raise IssuerUnusable(f"no trust root has signed {current.subject.rfc4514_string()}")
    return tuple(found)


def anchor_now(paths: Sequence[Path], now: datetime) -> x509.Certificate:
    """The root of the first path that is valid now. Raises IssuerUnusable saying what is not valid."""
    trouble = ""
    for path in paths:
        problem = next((text for certificate in path if (text := _out_of_time(certificate, now))), "")
        if not problem:
            return path[-1]
        trouble = trouble or problem
    raise IssuerUnusable(trouble or "no path to a trust root")


def check_issuer(issuer: Issuer, roots: Sequence[x509.Certificate], now: datetime) -> x509.Certificate:
    """The root that the issuer chains to now. Raises IssuerUnusable when there is none."""
    return anchor_now(paths_to_roots(issuer, roots), now)


def key_id(certificate: x509.Certificate) -> str:
    """Hexadecimal subject key identifier, computed when the certificate carries none."""
    try:
        digest = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return digest.hex()


@lru_cache(maxsize=64)
def certificate_id(certificate: x509.Certificate) -> str:
    """SHA-256 over DER, hexadecimal: how proxies name CA certificates, having no X.509 parser at hand."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


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


def _out_of_time(certificate: x509.Certificate, now: datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= now <= end:
        # Asked for every signature: names are written out only when there is something to say.
        return ""
    name = certificate.subject.rfc4514_string()
    return f"{name} is not valid before {start.isoformat()}" if now < start else f"{name} expired at {end.isoformat()}"


def _is_issued_by(certificate: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
