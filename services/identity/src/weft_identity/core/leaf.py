"""Make a leaf certificate from an accepted request. Time and serial number are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from weft_identity.core.csr import ecdsa_key, subject_of
from weft_identity.core.issuer import Issuer


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a leaf lives. clock_skew: added on both sides, for peers whose clocks run apart."""

    validity: timedelta
    clock_skew: timedelta


@dataclass(frozen=True, slots=True)
class Leaf:
    """One issued certificate as Certify returns it. intermediates: DER, the issuer first."""

    der: bytes
    intermediates: tuple[bytes, ...]
    serial: int
    not_before: datetime
    not_after: datetime


def validity_window(issuer: Issuer, now: datetime, lifetime: Lifetime) -> tuple[datetime, datetime]:
    """From and until, UTC, cut to whole seconds; never beyond the earliest expiry in the issuer's chain."""
    start = (now - lifetime.clock_skew).replace(microsecond=0)
    end = (now + lifetime.validity + lifetime.clock_skew).replace(microsecond=0)
    return start, min(end, issuer.not_after)


def issue_leaf(
    issuer: Issuer, csr: x509.CertificateSigningRequest, identity: str, now: datetime, lifetime: Lifetime, serial: int
) -> Leaf:
    """Sign. The caller has checked the request's names, its token and the issuer.

    Raises CertifyRefused for a key that is not ECDSA.
    """
    key = ecdsa_key(csr)
    subject = subject_of(csr)
    start, end = validity_window(issuer, now, lifetime)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(_EXTENDED_KEY_USAGE, critical=False)
        # Without a subject the alternative name is all there is, and then it must be critical (RFC 5280 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity)]), critical=not list(subject))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_key(issuer.certificate), critical=False)
        # An RSA issuer signs with PKCS#1, which is what proxies verify; the leaf's own key stays ECDSA.
        .sign(issuer.key, hashes.SHA256())
    )
    return Leaf(
        der=certificate.public_bytes(serialization.Encoding.DER),
        intermediates=_chain_der(issuer.chain),
        serial=serial,
        not_before=start,
        not_after=end,
    )


@lru_cache(maxsize=8)
def _chain_der(chain: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)


@lru_cache(maxsize=8)
def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(
        x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest, None, None
    )


_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_EXTENDED_KEY_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
