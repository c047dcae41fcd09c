"""Why a Certify call is refused: a closed set of reasons and the exception that carries one.

Raising, not returning, is on purpose: a refusal that somebody forgets to look at would become a certificate.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final


@unique
class RefusalReason(Enum):
    """One word per outcome; also the value of the outcome label in metrics."""

    NOT_READY = "not_ready"
    """No issuer has been loaded yet."""
    REQUEST_INCOMPLETE = "request_incomplete"
    """The identity, the token or the CSR is empty."""
    CSR_MALFORMED = "csr_malformed"
    """The CSR is no DER signing request, or not signed by its own key."""
    CSR_OVERSIZED = "csr_oversized"
    """The CSR is longer than any honest one."""
    ISSUER_INVALID = "issuer_invalid"
    """The issuer no longer chains to the trust roots."""
    CSR_UNACCEPTABLE = "csr_unacceptable"
    """The CSR names something else than the requested identity."""
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - a reason, not a secret
    """The API server reported an error about the token, or its user is not a workload."""
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    """The token's time is over."""
    TOKEN_WRONG_AUDIENCE = "token_wrong_audience"  # noqa: S105
    """The token was made for somebody else than the mesh."""
    TOKEN_UNAUTHENTICATED = "token_unauthenticated"  # noqa: S105
    """The API server does not know the token."""
    TOKEN_REPLAYED = "token_replayed"  # noqa: S105
    """The token was sent by another pod than the one it was given to."""
    IDENTITY_MISMATCH = "identity_mismatch"
    """The token belongs to another workload."""
    KEY_UNSUPPORTED = "key_unsupported"
    """The CSR's key is not ECDSA."""
    KEY_WEAK = "key_weak"
    """The CSR's key is ECDSA on a curve that proxies do not take."""
    REVIEW_FAILED = "review_failed"
    """The API server could not be asked."""


class CertifyRefused(Exception):
    """The call ends without a certificate. reason: to branch on; the text is for people and never holds a token."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.message: Final = message
