"""Is this certificate signing request acceptable for that identity?

Knows X.509 requests; does not know tokens, issuers or time.
"""

from __future__ import annotations

import warnings
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from weft_identity.core.refusal import CertifyRefused, RefusalReason

# A P-521 request with the longest identity is under 1 KiB; the rest is room for attributes we ignore.
MAX_CSR_BYTES: Final = 8192
STRONG_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def csr_from_der(der: bytes) -> x509.CertificateSigningRequest:
    """Read a DER request and check that its sender holds the key. Raises CertifyRefused."""
    if len(der) > MAX_CSR_BYTES:
        text = f"the certificate signing request has {len(der)} bytes, more than {MAX_CSR_BYTES}"
        raise CertifyRefused(RefusalReason.CSR_OVERSIZED, text)
    try:
        csr = x509.load_der_x509_csr(der)
        signed_by_own_key = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CertifyRefused(
            RefusalReason.CSR_MALFORMED, f"the certificate signing request cannot be read as DER: {error}"
        ) from error
    if not signed_by_own_key:
        raise CertifyRefused(RefusalReason.CSR_MALFORMED, "the signing request is not signed by its own key")
    return csr


def check_csr_names(csr: x509.CertificateSigningRequest, identity: str) -> None:
    """Accept exactly one DNS name equal to identity and a common name that is absent or the same.

    Raises CertifyRefused: any other name in the request would be vouched for unseen.
    """
    names = _alternative_names(csr)
    foreign = [type(name).__name__ for name in names if not isinstance(name, x509.DNSName)]
    if foreign:
        raise _unacceptable(f"only a DNS name is allowed in the request, found also {', '.join(sorted(set(foreign)))}")
    dns_names = [name.value for name in names]
    if dns_names != [identity]:
        raise _unacceptable(f"the request must name exactly {identity}, it names {', '.join(dns_names) or 'nothing'}")
    for common_name in _common_names(csr):
        if common_name not in ("", identity):
            raise _unacceptable(f"the common name must be empty or {identity}, it is {common_name}")


def ecdsa_key(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """The request's key. Raises CertifyRefused unless it is ECDSA on a strong curve: proxies sign with nothing else."""
    try:
        key = csr.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise CertifyRefused(RefusalReason.KEY_UNSUPPORTED, f"the request's key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertifyRefused(RefusalReason.KEY_UNSUPPORTED, "the request's key must be ECDSA")
    if not isinstance(key.curve, STRONG_CURVES):
        text = f"the request's key is on {key.curve.name}; use P-256, P-384 or P-521"
        raise CertifyRefused(RefusalReason.KEY_WEAK, text)
    return key


def _alternative_names(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _unacceptable(f"the request's extensions cannot be read: {error}") from error


def subject_of(csr: x509.CertificateSigningRequest) -> x509.Name:
    """The request's subject, as it is. Raises CertifyRefused when it cannot be read."""
    try:
        # The library warns about common names over 64 characters, which mesh identities routinely are.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return csr.subject
    except ValueError as error:
        raise _unacceptable(f"the request's subject cannot be read: {error}") from error


def _common_names(csr: x509.CertificateSigningRequest) -> list[str]:
    return [str(attribute.value) for attribute in subject_of(csr).get_attributes_for_oid(NameOID.COMMON_NAME)]


def _unacceptable(message: str) -> CertifyRefused:
    return CertifyRefused(RefusalReason.CSR_UNACCEPTABLE, message)
