"""What the certificate authority needs from the outside, as Protocols and the values that cross."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from weft_identity.core.issuer import Issuer
from weft_identity.core.names import TokenSubject


@dataclass(frozen=True, slots=True)
class Material:
    """What signs and what it must chain to, swapped as one value."""

    issuer: Issuer
    roots: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """A token the API server vouches for. pod_name, pod_uid: empty for tokens that are not bound to a pod."""

    subject: TokenSubject
    pod_name: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """One line of the certificate inventory. issuer_key_id, anchor_key_id: hexadecimal subject key identifiers."""

    identity: str
    token: ReviewedToken
    serial: int
    issuer_key_id: str
    anchor_key_id: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime


class ReviewTokens(Protocol):
    """Ask the cluster whose token this is."""

    async def review(self, token: str) -> ReviewedToken:
        """Raises CertifyRefused."""


class ObserveCertify(Protocol):
    """Is told what happened. Must not block: Certify waits for it."""

    def leaf_issued(self, leaf: IssuedLeaf) -> None:
        """A certificate was signed and is about to be sent."""

    def issuer_invalid(self, reason: str) -> None:
        """The issuer failed its check during a call."""
