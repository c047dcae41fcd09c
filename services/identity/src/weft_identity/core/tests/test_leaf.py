"""What an issued leaf says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from weft_identity.core.csr import csr_from_der
from weft_identity.core.leaf import Lifetime, issue_leaf, validity_window
from weft_identity.core.names import TrustDomain, subject_from_username
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.testing.pki import NOW, WEB, csr_for, issuer_of, make_ca, make_csr

DAY = Lifetime(timedelta(hours=24), timedelta(seconds=20))


def test_leaf_carries_what_proxies_check() -> None:
    root = make_ca("root")
    issuer = issuer_of(make_ca("issuer", root))
    csr = csr_from_der(csr_for(WEB))
    leaf = issue_leaf(issuer, csr, WEB, NOW, DAY, serial=77)
    certificate = x509.load_der_x509_certificate(leaf.der)
    certificate.verify_directly_issued_by(issuer.certificate)
    assert certificate.serial_number == leaf.serial == 77
    assert certificate.public_key() == csr.public_key()
    assert certificate.not_valid_before_utc == leaf.not_before == NOW - timedelta(seconds=20)
    assert certificate.not_valid_after_utc == leaf.not_after == NOW + timedelta(hours=24, seconds=20)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.DNSName(WEB)]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert [x509.load_der_x509_certificate(der) for der in leaf.intermediates] == [issuer.certificate]


def test_leaf_without_subject_has_a_critical_name() -> None:
    csr = csr_from_der(make_csr(x509.DNSName(WEB), key=None))
    leaf = issue_leaf(issuer_of(make_ca("root")), csr, WEB, NOW, DAY, serial=1)
    certificate = x509.load_der_x509_certificate(leaf.der)
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_leaf_never_outlives_its_issuer_or_an_intermediate() -> None:
    root = make_ca("root")
    middle = make_ca("middle", root, end=NOW + timedelta(hours=3))
    issuer = issuer_of(make_ca("issuer", middle, end=NOW + timedelta(hours=9)), middle[0])
    assert validity_window(issuer, NOW, DAY)[1] == NOW + timedelta(hours=3)


@pytest.mark.parametrize(
    "username",
    ["", "alice", "system:node:n1", "system:serviceaccount:shop", "system:serviceaccount:shop:web:x",
     "system:serviceaccount:Shop:web", "user:serviceaccount:shop:web", "system:serviceaccount::web",
     "system:serviceaccount:shop:web..x", "system:serviceaccount:-shop:web"],
)  # fmt: skip
def test_user_that_is_no_workload_is_refused(username: str) -> None:
    with pytest.raises(CertifyRefused) as refused:
        subject_from_username(username)
    assert refused.value.reason is RefusalReason.TOKEN_REJECTED


def test_identity_follows_the_service_account() -> None:
    subject = subject_from_username("system:serviceaccount:shop:web")
    assert subject.identity(TrustDomain("linkerd", "cluster.local")) == WEB
