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
    """The identity, the token or the CSR is empty, or the CSR is not one."""
    ISSUER_INVALID = "issuer_invalid"
    """The issuer no longer chains to the trust roots."""
    CSR_UNACCEPTABLE = "csr_unacceptable"
    """The CSR names something else than the requested identity."""
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - a reason, not a secret
    """The API server reported an error about the token, or its user is not a workload."""
    TOKEN_UNAUTHENTICATED = "token_unauthenticated"  # noqa: S105
    """The API server does not know the token."""
    IDENTITY_MISMATCH = "identity_mismatch"
    """The token belongs to another workload."""
    KEY_UNSUPPORTED = "key_unsupported"
    """The CSR's key is not ECDSA."""
    REVIEW_FAILED = "review_failed"
    """The API server could not be asked."""


class CertifyRefused(Exception):
    """The call ends without a certificate. reason: to branch on; the text is for people and never holds a token."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.message: Final = message
