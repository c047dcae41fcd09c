"""Certificates and rotations as people and programs read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from weft_proto.weft import identity_pb2 as pb

from weft_cli.core.identity_view import (
    certificate_json,
    certificates_table,
    duration_text,
    is_overdue,
    rotation_text,
    status_json,
    status_text,
)
from weft_cli.core.tests.certificates import issue

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ANCHOR = issue("root", days=90)
ISSUER = issue("issuer", ANCHOR, days=-1)


def certificate(pod: str, used: float, **fields: object) -> pb.Certificate:
    """used: share of a life of ten hours that is over."""
    made = pb.Certificate(
        identity=f"{pod}.shop.serviceaccount.identity.linkerd.cluster.local",
        namespace="shop",
        pod=pod,
        **fields,  # type: ignore[arg-type]  # fields of the message
    )
    made.not_before.FromDatetime(NOW - timedelta(hours=10) * used)
    made.not_after.FromDatetime(NOW + timedelta(hours=10) * (1 - used))
    return made


def test_table_shows_what_is_late_and_who_does_not_report() -> None:
    rows = [certificate("web", 0.9, issuer_id="ab" * 32), certificate("cart", 0.5, trusted_anchors=["cd" * 32])]
    lines = certificates_table(rows, NOW).text().splitlines()
    assert "web.shop" in lines[1]
    assert "1h (overdue)" in lines[1]
    assert "abababababab" in lines[1]
    assert "not reported" in lines[1]
    assert "5h " in lines[2]
    assert "cdcdcdcdcdcd" in lines[2]
    assert [is_overdue(row, NOW) for row in rows] == [True, False]
    assert not is_overdue(pb.Certificate(), NOW)


def test_what_is_not_known_is_null_in_json() -> None:
    found = certificate_json(pb.Certificate(identity="web"))
    assert found["not_after"] is None
    assert found["trusted_anchors"] == []


def test_status_names_anchors_issuer_trouble_and_who_holds_a_rotation_up() -> None:
    trust = pb.TrustState(bundle_pem=ANCHOR.pem, issuer_pem=ISSUER.pem, trouble="CN=issuer expired")
    state = pb.RotationState(id="r1", kind=pb.RotationState.ANCHOR, stage=pb.RotationState.TRUST)
    state.holders.add(namespace="shop", pod="legacy-1", why="restart it")
    rows = [certificate("web", 0.5)]
    text = status_text(trust, rows, state, NOW)
    assert "CN=root, expires in 90d; 0 proxies report to trust it" in text
    assert "CN=issuer, EXPIRED at 2026-05-31T00:00:00Z" in text
    assert "trouble  CN=issuer expired" in text
    assert "held up by shop/legacy-1: restart it" in text
    found = status_json(trust, rows, state, NOW)
    assert (found["certificates"], found["rotation"]["stage"]) == (1, "trust")
    assert status_text(trust, [], None, NOW).endswith("rotation none\n")


def test_rotation_that_was_taken_back_says_so() -> None:
    state = pb.RotationState(id="r1", kind=pb.RotationState.ISSUER, stage=pb.RotationState.DONE, aborted=True)
    assert rotation_text(state) == "rotation r1 of the issuer: taken back\n"


def test_durations_have_two_units_at_most() -> None:
    assert [duration_text(s) for s in (0, 61, 86_400 * 59 + 3_700, 3_600)] == ["0s", "1m 1s", "59d 1h", "1h"]
