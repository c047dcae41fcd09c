"""The order of checks of one Certify call: from a request to a leaf or a refusal.

Owns the order and nothing else: cryptography is in core, the token review and the observers come as ports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from weft_identity.core.csr import check_csr_names, csr_from_der
from weft_identity.core.issuer import IssuerUnusable, check_issuer, key_id
from weft_identity.core.leaf import Leaf, Lifetime, issue_leaf
from weft_identity.core.names import TrustDomain
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.ports import IssuedLeaf, Material, ObserveCertify, ReviewTokens


@dataclass(frozen=True, slots=True)
class CertifyOrder:
    """What the caller sent."""

    identity: str
    token: bytes
    csr_der: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """Certifies workloads. material: the current issuer and roots, None until loaded. now: UTC."""

    domain: TrustDomain
    lifetime: Lifetime
    material: Callable[[], Material | None]
    tokens: ReviewTokens
    observer: ObserveCertify
    now: Callable[[], datetime]
    random_serial: Callable[[], int] = x509.random_serial_number

    async def certify(self, order: CertifyOrder) -> Leaf:
        """Raises CertifyRefused. The order of checks is part of the contract: callers see the first failure."""
        if self.material() is None:
            raise CertifyRefused(RefusalReason.NOT_READY, "no issuer certificate is loaded yet; retry later")
        csr = _complete(order)
        self._anchor_now()
        check_csr_names(csr, order.identity)
        reviewed = await self.tokens.review(order.token.decode(errors="replace"))
        entitled = reviewed.subject.identity(self.domain)
        if entitled != order.identity:
            raise CertifyRefused(
                RefusalReason.IDENTITY_MISMATCH, f"the token belongs to {entitled}, it cannot have {order.identity}"
            )
        # The review took a while: sign with what is current, which may be a newer issuer, and check it again.
        material, anchor = self._anchor_now()
        now = self.now()
        leaf = issue_leaf(material.issuer, csr, order.identity, now, self.lifetime, self.random_serial())
        self.observer.leaf_issued(
            IssuedLeaf(
                identity=order.identity,
                token=reviewed,
                serial=leaf.serial,
                issuer_key_id=key_id(material.issuer.certificate),
                anchor_key_id=key_id(anchor),
                not_before=leaf.not_before,
                not_after=leaf.not_after,
                issued_at=now,
            )
        )
        return leaf

    def _anchor_now(self) -> tuple[Material, x509.Certificate]:
        material = self.material()
        assert material is not None, "material is replaced, never taken away"
        try:
            return material, check_issuer(material.issuer, material.roots, self.now())
        except IssuerUnusable as error:
            self.observer.issuer_invalid(str(error))
            raise CertifyRefused(RefusalReason.ISSUER_INVALID, f"the issuer cannot sign: {error}") from error


def _complete(order: CertifyOrder) -> x509.CertificateSigningRequest:
    empty = [
        name
        for name, value in (
            ("identity", order.identity),
            ("token", order.token),
            ("certificate_signing_request", order.csr_der),
        )
        if not value
    ]
    if empty:
        raise CertifyRefused(RefusalReason.REQUEST_INCOMPLETE, f"the request lacks {', '.join(empty)}")
    return csr_from_der(order.csr_der)
