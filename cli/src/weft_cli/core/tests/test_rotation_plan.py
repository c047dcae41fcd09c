"""What people pass with --to, and what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from weft_local.cluster.pki import Credentials, certificate_authority
from weft_proto.weft import identity_pb2 as pb

from weft_cli.core.rotation_plan import (
    Current,
    Issuer,
    Lifetimes,
    ca_file,
    keys_of,
    managed_by,
    plan_anchor,
    plan_issuer,
    state_of,
)
from weft_cli.errors import BadInput

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LIVES = Lifetimes(timedelta(days=3650), timedelta(days=30))
DOMAIN = "cluster.local"
ANCHOR = certificate_authority("root", NOW)
ISSUER = certificate_authority("issuer", NOW, ANCHOR)
CURRENT = Current(ANCHOR.certificate_pem, Issuer(ISSUER.certificate_pem, ISSUER.key_pem))


def text(*parts: Credentials, key: Credentials) -> str:
    return "".join(part.certificate_pem for part in parts) + key.key_pem


def test_anchor_is_made_with_an_issuer_below_it_and_its_key_is_handed_out() -> None:
    plan = plan_anchor(CURRENT, None, DOMAIN, NOW, LIVES)
    assert plan.made_anchor is not None
    assert plan.bundle_pem == plan.made_anchor.certificate_pem
    issuer = x509.load_pem_x509_certificate(plan.issuer.certificate_pem.encode())
    issuer.verify_directly_issued_by(plan.made_anchor.certificate)
    assert issuer.not_valid_after_utc == NOW + timedelta(days=30)


def test_anchor_with_its_key_gets_an_issuer_and_one_without_brings_its_own() -> None:
    other = certificate_authority("other root", NOW)
    below = certificate_authority("other issuer", NOW, other)
    made = plan_anchor(CURRENT, ca_file(text(other, key=other), "f"), DOMAIN, NOW, LIVES)
    brought = plan_anchor(CURRENT, ca_file(text(below, other, key=below), "f"), DOMAIN, NOW, LIVES)
    assert made.bundle_pem == brought.bundle_pem == other.certificate_pem
    assert brought.issuer == Issuer(below.certificate_pem, below.key_pem)
    assert made.made_anchor is brought.made_anchor is None


def test_issuer_below_an_anchor_in_use_is_taken_as_it_is() -> None:
    below = certificate_authority("next issuer", NOW, ANCHOR)
    plan = plan_issuer(CURRENT, ca_file(text(below, key=below), "f"), DOMAIN, NOW, LIVES)
    assert plan.issuer.id == below.id
    assert plan.bundle_pem == CURRENT.bundle_pem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "no readable PEM certificate"),
        (ANCHOR.certificate_pem, "no unencrypted PEM private key"),
        (text(ANCHOR, key=ISSUER), "belongs to none"),
        (text(*[certificate_authority("stranger", NOW)] * 1, key=ANCHOR), "belongs to none"),
    ],
)
def test_file_that_is_no_ca_is_refused_with_its_name(given: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem) as refused:
        ca_file(given, "ca.pem")
    assert "ca.pem" in refused.value.message
    assert "PRIVATE KEY" not in refused.value.message


def test_issuer_that_no_anchor_signed_is_refused_with_what_to_do() -> None:
    stranger = certificate_authority("stranger", NOW)
    below = certificate_authority("issuer", NOW, stranger)
    for given in (text(below, key=below), text(stranger, key=stranger)):
        with pytest.raises(BadInput) as refused:
            plan_issuer(CURRENT, ca_file(given, "f"), DOMAIN, NOW, LIVES)
        assert "rotate anchor --to" in refused.value.hint
    with pytest.raises(BadInput, match="in use already"):
        plan_issuer(CURRENT, ca_file(text(ISSUER, key=ISSUER), "f"), DOMAIN, NOW, LIVES)


def test_anchor_of_another_issuer_is_refused() -> None:
    stranger = certificate_authority("stranger", NOW)
    with pytest.raises(BadInput, match="not signed by the anchor"):
        plan_anchor(CURRENT, ca_file(text(ISSUER, stranger, key=ISSUER), "f"), DOMAIN, NOW, LIVES)
    with pytest.raises(BadInput, match="no self-signed"):
        plan_anchor(CURRENT, ca_file(text(ISSUER, key=ISSUER), "f"), DOMAIN, NOW, LIVES)


def test_state_begins_with_publishing_and_holds_no_key() -> None:
    plan = plan_anchor(CURRENT, None, DOMAIN, NOW, LIVES)
    state = state_of(plan, "r1", NOW)
    assert (state.stage, state.kind) == (pb.RotationState.PUBLISH, pb.RotationState.ANCHOR)
    assert (getattr(state, "from").issuer_id, state.to.issuer_id) == (ISSUER.id, plan.issuer.id)
    assert "PRIVATE KEY" not in str(state)
    assert set(keys_of(plan)) == {"old.crt", "old.key", "new.crt", "new.key"}


def test_objects_that_others_keep_are_recognised() -> None:
    assert managed_by([{}, {"cert-manager.io/certificate-name": "issuer"}]) == "cert-manager"
    assert managed_by([{"trust.cert-manager.io/bundle": "roots"}]) == "trust-manager"
    assert managed_by([{"linkerd.io/control-plane-ns": "linkerd"}]) == ""
