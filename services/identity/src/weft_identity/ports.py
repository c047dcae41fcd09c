"""What the certificate authority needs from the outside, as Protocols and the values that cross."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from weft_identity.core.inventory import LeafRecord
from weft_identity.core.issuer import Issuer, Path, anchor_now, certificate_id, key_id, paths_to_roots
from weft_identity.core.names import TokenSubject
from weft_identity.core.proxies import MeshedPod


@dataclass(frozen=True, slots=True)
class Material:
    """What signs and what it must chain to, swapped as one value. Made by `material_from`."""

    issuer: Issuer
    roots: tuple[x509.Certificate, ...]
    bundle_pem: str
    paths: tuple[Path, ...]
    issuer_id: str
    issuer_key_id: str

    def anchor(self, now: datetime) -> x509.Certificate:
        """The root the issuer chains to now. Raises IssuerUnusable."""
        return anchor_now(self.paths, now)

    def is_over(self, now: datetime) -> bool:
        """Whether every way from the issuer to a root has expired, and every leaf with it."""
        return all(any(certificate.not_valid_after_utc <= now for certificate in path) for path in self.paths)


def material_from(issuer: Issuer, roots: tuple[x509.Certificate, ...], bundle_pem: str) -> Material:
    """Raises IssuerUnusable when the issuer leads to none of the roots; time is not looked at."""
    return Material(
        issuer,
        roots,
        bundle_pem,
        paths_to_roots(issuer, roots),
        certificate_id(issuer.certificate),
        key_id(issuer.certificate),
    )


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """A token the API server vouches for. pod_name, pod_uid: empty for tokens that are not bound to a pod."""

    subject: TokenSubject
    pod_name: str
    pod_uid: str


class ReviewTokens(Protocol):
    """Ask the cluster whose token this is."""

    async def review(self, token: str) -> ReviewedToken:
        """Raises CertifyRefused."""


class FindPods(Protocol):
    """The cluster's pods, as far as they are known."""

    def by_uid(self, uid: str) -> MeshedPod | None:
        """None for a pod that is not meshed, or not known."""

    def at(self, address: str) -> frozenset[str]:
        """Uids of the pods with this address; several share their node's."""


class ObserveCertify(Protocol):
    """Is told what happened. Must not block: Certify waits for it."""

    def leaf_issued(self, leaf: LeafRecord, kind: str) -> None:
        """A certificate was signed and is about to be sent. kind: of its subject, such as serviceaccount."""

    def issuer_invalid(self, reason: str) -> None:
        """The issuer failed its check during a call."""
