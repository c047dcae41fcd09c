"""What may sign, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from weft_identity.core.csr import csr_from_der
from weft_identity.core.issuer import (
    IssuerUnusable,
    check_issuer,
    issuer_from_pem,
    key_id,
    roots_from_pem,
)
from weft_identity.core.leaf import Lifetime, issue_leaf
from weft_identity.testing.pki import NOW, WEB, csr_for, issuer_of, key_pem, make_ca, pem, rsa_ca


def test_issuer_signed_by_a_root_is_usable() -> None:
    root = make_ca("root")
    issuer = make_ca("issuer", root, path_length=0)
    assert check_issuer(issuer_of(issuer), [make_ca("old root")[0], root[0]], NOW) == root[0]


def test_root_may_sign_leaves_itself() -> None:
    root = make_ca("root")
    assert check_issuer(issuer_of(root), [root[0]], NOW) == root[0]


def test_issuer_reaches_its_root_through_an_intermediate() -> None:
    root = make_ca("root")
    middle = make_ca("middle", root, path_length=1)
    issuer = make_ca("issuer", middle)
    with pytest.raises(IssuerUnusable, match="no trust root"):
        check_issuer(issuer_of(issuer), [root[0]], NOW)
    assert check_issuer(issuer_of(issuer, middle[0]), [root[0]], NOW) == root[0]


def test_path_length_of_an_intermediate_is_respected() -> None:
    root = make_ca("root")
    middle = make_ca("middle", root, path_length=0)
    issuer = make_ca("issuer", middle)
    with pytest.raises(IssuerUnusable, match="does not allow 1 CA"):
        check_issuer(issuer_of(issuer, middle[0]), [root[0]], NOW)


def test_issuer_of_a_namesake_root_is_refused() -> None:
    issuer = make_ca("issuer", make_ca("root"))
    with pytest.raises(IssuerUnusable, match="no trust root"):
        check_issuer(issuer_of(issuer), [make_ca("root")[0]], NOW)


def test_intermediates_that_sign_each_other_end_the_search() -> None:
    first = make_ca("first")
    second = make_ca("second", first)
    with pytest.raises(IssuerUnusable):
        check_issuer(issuer_of(second, first[0], first[0], second[0]), [make_ca("root")[0]], NOW)


@pytest.mark.parametrize("moment", [NOW - timedelta(days=2), NOW + timedelta(days=400)])
def test_issuer_outside_its_validity_is_refused(moment: datetime) -> None:
    root = make_ca("root", start=NOW - timedelta(days=1000), end=NOW + timedelta(days=1000))
    issuer = make_ca("issuer", root)
    with pytest.raises(IssuerUnusable, match=r"expired|not valid before"):
        check_issuer(issuer_of(issuer), [root[0]], moment)


def test_expired_root_is_refused() -> None:
    root = make_ca("root", end=NOW - timedelta(hours=1))
    with pytest.raises(IssuerUnusable, match="expired"):
        check_issuer(issuer_of(make_ca("issuer", root)), [root[0]], NOW)


def test_certificate_that_is_no_ca_is_refused_when_read() -> None:
    certificate, key = make_ca("leaf", is_ca=False)
    with pytest.raises(IssuerUnusable, match="not a CA"):
        issuer_from_pem(pem(certificate), key_pem(key))


def test_key_of_another_certificate_is_refused() -> None:
    with pytest.raises(IssuerUnusable, match="does not belong"):
        issuer_from_pem(pem(make_ca("a")[0]), key_pem(make_ca("b")[1]))


@pytest.mark.parametrize("text", [b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_text_that_is_no_pem_is_refused_with_its_place(text: bytes) -> None:
    with pytest.raises(IssuerUnusable, match="the trust bundle"):
        roots_from_pem(text)
    with pytest.raises(IssuerUnusable, match="the issuer key"):
        issuer_from_pem(pem(make_ca("a")[0]), text)


def test_chain_in_the_file_is_kept_without_its_root() -> None:
    root = make_ca("root")
    middle = make_ca("middle", root)
    certificate, key = make_ca("issuer", middle)
    issuer = issuer_from_pem(pem(certificate, middle[0], root[0]), key_pem(key))
    assert issuer.chain == (certificate, middle[0])


def test_key_id_is_the_same_for_a_renewed_certificate_of_one_key() -> None:
    root = make_ca("root")
    assert key_id(root[0]) == key_id(root[0])
    assert key_id(root[0]) != key_id(make_ca("root")[0])


def test_rsa_issuer_signs_and_a_weak_one_does_not() -> None:
    root = make_ca("root")
    certificate, key = rsa_ca("issuer", root, 2048)
    issuer = issuer_from_pem(pem(certificate), key_pem(key))
    assert check_issuer(issuer, [root[0]], NOW) == root[0]
    csr = csr_from_der(csr_for(WEB))
    leaf = issue_leaf(issuer, csr, WEB, NOW, Lifetime(timedelta(hours=1), timedelta()), serial=1)
    x509.load_der_x509_certificate(leaf.der).verify_directly_issued_by(certificate)
    weak = rsa_ca("issuer", root, 1024)
    with pytest.raises(IssuerUnusable, match="1024 bits"):
        issuer_from_pem(pem(weak[0]), key_pem(weak[1]))


def test_renewed_root_with_the_key_of_an_expired_one_is_found() -> None:
    old = make_ca("root", end=NOW - timedelta(hours=1))
    renewed = make_ca("root", key=old[1])
    issuer = issuer_of(make_ca("issuer", old))
    assert check_issuer(issuer, [old[0], renewed[0]], NOW) == renewed[0]


def test_unreadable_key_is_never_quoted() -> None:
    secret = key_pem(make_ca("a")[1]).replace(b"PRIVATE", b"PRIVAT")
    with pytest.raises(IssuerUnusable) as refused:
        issuer_from_pem(pem(make_ca("a")[0]), secret)
    assert secret.decode().splitlines()[1] not in str(refused.value)
