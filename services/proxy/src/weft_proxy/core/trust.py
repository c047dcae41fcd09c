"""Which CA certificates a proxy trusts, and when its leaf is out of date with what the mesh signs with now.

CA certificates are named by SHA-256 over their DER. Pure; PEM and DER in, names and moments out.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from random import Random

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_INTEGER, _SEQUENCE, _CONTEXT_0 = 0x02, 0x30, 0xA0


def anchor_ids(bundle_pem: str) -> list[str]:
    """Of every certificate in a bundle, sorted. Raises ValueError when one is not base64."""
    try:
        ders = [base64.b64decode("".join(body.split()), validate=True) for body in _PEM.findall(bundle_pem)]
    except binascii.Error as error:
        raise ValueError(f"a certificate of the trust bundle is not base64: {error}") from error
    return sorted({hashlib.sha256(der).hexdigest() for der in ders})


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate in use. serial: hexadecimal. issuer_id: of the CA certificate that signed it."""

    serial: str
    issuer_id: str
    not_after_s: int


def leaf_from_der(leaf: bytes, intermediates: list[bytes], not_after_s: int) -> Leaf:
    """intermediates: the issuer first. A leaf without any was signed by an anchor itself, and names no issuer."""
    issuer_id = hashlib.sha256(intermediates[0]).hexdigest() if intermediates else ""
    return Leaf(serial_of(leaf), issuer_id, not_after_s)


def serial_of(der: bytes) -> str:
    """Serial number of a DER certificate, hexadecimal; empty when it is none. Source: RFC 5280 4.1."""
    try:
        body = _content(_content(der, _SEQUENCE)[0], _SEQUENCE)[0]
        if body[0] == _CONTEXT_0:
            body = _content(body, _CONTEXT_0)[1]
        return format(int.from_bytes(_content(body, _INTEGER)[0]), "x")
    except (IndexError, ValueError):
        return ""


def _content(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the element at the start, and what follows it. Raises ValueError, IndexError."""
    if der[0] != tag:
        raise ValueError(f"expected tag {tag:#x}, found {der[0]:#x}")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start])
    if len(der) < start + length:
        raise ValueError("the element is cut short")
    return der[start : start + length], der[start + length :]


class IssuerSought:
    """The CA certificate that signs now, as the identity service says, and how soon to be signed by it."""

    __slots__ = ("_asked", "_issuer_id", "_rng", "_within_s")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._issuer_id = ""
        self._within_s = 0.0
        self._asked = True

    def told(self, issuer_id: str, within_s: float, leaf: Leaf | None) -> bool:
        """Whether the leaf in use wants to be replaced for it."""
        if issuer_id != self._issuer_id:
            self._issuer_id, self._within_s, self._asked = issuer_id, within_s, False
        return self._differs(leaf)

    def wait_s(self, leaf: Leaf | None, again_s: float) -> float | None:
        """How long to wait before asking for a leaf of it; None when there is no hurry.

        The first wait is random, so that a whole mesh does not ask at once. An answer that is still signed by the old
        one came from a replica that has not noticed yet: then again_s.
        """
        if not self._differs(leaf):
            return None
        if self._asked:
            return again_s
        self._asked = True
        return self._rng.uniform(0.0, self._within_s)

    def _differs(self, leaf: Leaf | None) -> bool:
        return leaf is not None and bool(self._issuer_id) and leaf.issuer_id not in ("", self._issuer_id)
