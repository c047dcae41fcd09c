"""Which anchors a bundle holds, which leaf is in use, and when another issuer is a reason to renew."""

from random import Random

import pytest
from weft_proxy.core.trust import IssuerSought, Leaf, anchor_ids, leaf_from_der, serial_of

BUNDLE = """
a comment
-----BEGIN CERTIFICATE-----
AAEC
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
AwQF
-----END CERTIFICATE-----
"""
OLD, NEW = Leaf("1", "old", 100), Leaf("2", "new", 200)


def test_anchors_are_named_by_their_bytes_whatever_stands_between_them() -> None:
    ids = anchor_ids(BUNDLE)
    assert len(ids) == 2
    assert ids == anchor_ids(BUNDLE.replace("a comment", "") * 2)


def test_text_that_is_no_base64_is_refused() -> None:
    with pytest.raises(ValueError, match="base64"):
        anchor_ids(BUNDLE.replace("AAEC", "A?EC"))


@pytest.mark.parametrize(
    ("der", "serial"),
    [
        # SEQUENCE { SEQUENCE { [0] { INTEGER 2 } INTEGER 0x1234 } }
        (bytes.fromhex("300b3009a0030201020202 1234".replace(" ", "")), "1234"),
        # Version 1 certificates leave the version out.
        (bytes.fromhex("3005300302017f"), "7f"),
        (b"", ""),
        (b"leaf", ""),
        (bytes.fromhex("30ff"), ""),
    ],
)
def test_serial_is_read_from_der(der: bytes, serial: str) -> None:
    assert serial_of(der) == serial
    assert serial_of(der[:-1]) == ""


def test_leaf_signed_by_an_anchor_itself_names_no_issuer() -> None:
    assert leaf_from_der(b"leaf", [], 5) == Leaf("", "", 5)
    assert len(leaf_from_der(b"leaf", [b"issuer", b"middle"], 5).issuer_id) == 64


def test_first_hurry_is_random_and_an_answer_of_the_old_issuer_waits_longer() -> None:
    sought = IssuerSought(Random(1))
    assert not sought.told("old", 5.0, OLD)
    assert sought.wait_s(OLD, 10.0) is None
    assert sought.told("new", 5.0, OLD)
    first = sought.wait_s(OLD, 10.0)
    assert first is not None
    assert 0 <= first <= 5.0
    assert sought.wait_s(OLD, 10.0) == 10.0
    assert sought.wait_s(NEW, 10.0) is None


def test_proxy_without_a_leaf_has_nothing_to_replace() -> None:
    sought = IssuerSought(Random(1))
    assert not sought.told("new", 5.0, None)
    assert sought.wait_s(None, 10.0) is None
