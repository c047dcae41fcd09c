"""The order of checks of one Certify call: from a request to a leaf or a refusal.

Owns the order and nothing else: cryptography is in core, the token review and the observers come as ports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from weft_identity.core.caller import UNKNOWN_CALLER, Caller, check_caller
from weft_identity.core.csr import check_csr_names, csr_from_der
from weft_identity.core.inventory import LeafRecord
from weft_identity.core.issuer import IssuerUnusable, certificate_id
from weft_identity.core.leaf import Leaf, Lifetime, issue_leaf
from weft_identity.core.names import TrustDomain
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.ports import FindPods, Material, ObserveCertify, ReviewedToken, ReviewTokens


@dataclass(frozen=True, slots=True)
class CertifyOrder:
    """What the caller sent, and from where."""

    identity: str
    token: bytes
    csr_der: bytes
    caller: Caller = UNKNOWN_CALLER


@dataclass(frozen=True, slots=True)
class ProveWorkload:
    """Whose token is this, and may its sender use it?"""

    domain: TrustDomain
    tokens: ReviewTokens
    pods: FindPods

    async def workload(self, identity: str, token: bytes, caller: Caller) -> ReviewedToken:
        """Raises CertifyRefused unless the token belongs to identity and comes from the pod it was given to."""
        reviewed = await self.tokens.review(token.decode(errors="replace"))
        entitled = reviewed.subject.identity(self.domain)
        if entitled != identity:
            raise CertifyRefused(
                RefusalReason.IDENTITY_MISMATCH, f"the token belongs to {entitled}, it cannot have {identity}"
            )
        check_caller(caller, identity, reviewed.pod_uid, self.pods.by_uid, self.pods.at)
        return reviewed


@dataclass(frozen=True, slots=True)
class Authority:
    """Certifies workloads. material: the current issuer and roots, None until loaded. now: UTC."""

    proof: ProveWorkload
    lifetime: Lifetime
    material: Callable[[], Material | None]
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
        reviewed = await self.proof.workload(order.identity, order.token, order.caller)
        # The review took a while: sign with what is current, which may be a newer issuer, and check it again.
        material, anchor = self._anchor_now()
        now = self.now()
        leaf = issue_leaf(material.issuer, csr, order.identity, now, self.lifetime, self.random_serial())
        record = LeafRecord(
            identity=order.identity,
            namespace=reviewed.subject.namespace,
            pod=reviewed.pod_name,
            pod_uid=reviewed.pod_uid,
            serial=format(leaf.serial, "x"),
            issuer_id=material.issuer_id,
            issuer_key_id=material.issuer_key_id,
            anchor_id=certificate_id(anchor),
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            issued_at=now,
        )
        self.observer.leaf_issued(record, reviewed.subject.kind)
        return leaf

    def _anchor_now(self) -> tuple[Material, x509.Certificate]:
        material = self.material()
        assert material is not None, "material is replaced, never taken away"
        try:
            return material, material.anchor(self.now())
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
