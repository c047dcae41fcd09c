"""Workload names: from the user name of a reviewed token to a mesh identity.

Knows the two spellings and nothing about certificates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from weft_identity.core.refusal import CertifyRefused, RefusalReason

# RFC 1123 label, which is what a namespace and a service account are made of.
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# A service account may be a subdomain: labels joined by dots.
_MAX_NAME_LENGTH: Final = 253


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """Where identities live: the last two parts of every one. name: such as cluster.local."""

    control_plane_namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """Whom a reviewed token belongs to. kind: serviceaccount in every cluster seen so far."""

    kind: str
    namespace: str
    name: str

    def identity(self, domain: TrustDomain) -> str:
        """The one identity this subject may be certified as."""
        return f"{self.name}.{self.namespace}.{self.kind}.identity.{domain.control_plane_namespace}.{domain.name}"


def subject_from_username(username: str) -> TokenSubject:
    """Read `system:<kind>:<namespace>:<name>`. Raises CertifyRefused when it is anything else."""
    parts = username.split(":")
    if len(parts) != 4 or parts[0] != "system" or not all(_is_dns_name(part) for part in parts[1:]):
        raise CertifyRefused(
            RefusalReason.TOKEN_REJECTED,
            f"the token's user {username!r} is not of the form system:serviceaccount:<namespace>:<name>",
        )
    return TokenSubject(kind=parts[1], namespace=parts[2], name=parts[3])


def _is_dns_name(text: str) -> bool:
    return len(text) <= _MAX_NAME_LENGTH and all(_DNS_LABEL.fullmatch(label) for label in text.split("."))
