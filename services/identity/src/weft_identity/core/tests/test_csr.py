"""Which requests are accepted for an identity."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from weft_identity.core.csr import MAX_CSR_BYTES, check_csr_names, csr_from_der, ecdsa_key
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.testing.pki import WEB, csr_for, make_csr

OTHER = "other.shop.serviceaccount.identity.linkerd.cluster.local"


def test_request_with_its_identity_as_only_name_is_accepted() -> None:
    check_csr_names(csr_from_der(csr_for(WEB)), WEB)


def test_common_name_may_be_absent() -> None:
    check_csr_names(csr_from_der(make_csr(x509.DNSName(WEB), key=None)), WEB)


def test_common_name_longer_than_x509_wishes_is_accepted() -> None:
    identity = "a-service-account-with-a-long-name.a-namespace.serviceaccount.identity.linkerd.cluster.local"
    check_csr_names(csr_from_der(csr_for(identity)), identity)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName(OTHER),),
        (x509.DNSName(WEB), x509.DNSName(OTHER)),
        (x509.DNSName(WEB), x509.DNSName(WEB)),
        (x509.DNSName(WEB), x509.RFC822Name("web@shop")),
        (x509.DNSName(WEB), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))),
        (x509.DNSName(WEB), x509.UniformResourceIdentifier("spiffe://cluster.local/web")),
    ],
)
def test_request_that_names_anything_else_is_refused(names: tuple[x509.GeneralName, ...]) -> None:
    csr = csr_from_der(make_csr(*names, key=None))
    with pytest.raises(CertifyRefused) as refused:
        check_csr_names(csr, WEB)
    assert refused.value.reason is RefusalReason.CSR_UNACCEPTABLE


def test_foreign_common_name_is_refused() -> None:
    csr = csr_from_der(make_csr(x509.DNSName(WEB), common_name=OTHER, key=None))
    with pytest.raises(CertifyRefused, match="common name"):
        check_csr_names(csr, WEB)


@pytest.mark.parametrize("der", [b"", b"\x30", b"nonsense", csr_for(WEB)[:-1]])
def test_bytes_that_are_no_request_are_refused(der: bytes) -> None:
    with pytest.raises(CertifyRefused) as refused:
        csr_from_der(der)
    assert refused.value.reason is RefusalReason.CSR_MALFORMED


def test_request_signed_by_another_key_is_refused() -> None:
    der = bytearray(csr_for(WEB))
    der[-1] ^= 1
    with pytest.raises(CertifyRefused) as refused:
        csr_from_der(bytes(der))
    assert refused.value.reason is RefusalReason.CSR_MALFORMED


def test_rsa_key_is_refused() -> None:
    csr = csr_from_der(make_csr(x509.DNSName(WEB), key=rsa.generate_private_key(65537, 2048)))
    with pytest.raises(CertifyRefused) as refused:
        ecdsa_key(csr)
    assert refused.value.reason is RefusalReason.KEY_UNSUPPORTED


def test_key_on_a_weak_curve_is_refused() -> None:
    csr = csr_from_der(make_csr(x509.DNSName(WEB), key=ec.generate_private_key(ec.SECP224R1())))
    with pytest.raises(CertifyRefused) as refused:
        ecdsa_key(csr)
    assert refused.value.reason is RefusalReason.KEY_WEAK


def test_request_longer_than_any_honest_one_is_not_even_parsed() -> None:
    with pytest.raises(CertifyRefused) as refused:
        csr_from_der(csr_for(WEB) + b"\0" * MAX_CSR_BYTES)
    assert refused.value.reason is RefusalReason.CSR_OVERSIZED
