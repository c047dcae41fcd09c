"""The cluster as the certificate authority sees it: token reviews, one permission check, events.

API objects in, core values out. Sends tokens to the API server only; logs none of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import EVENTS, TOKEN_REVIEWS, Resource
from weft_common.log import get_logger
from weft_common.settings import ConfigurationError

from weft_identity.core.names import subject_from_username
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.ports import ReviewedToken

MESH_AUDIENCE: Final = "identity.l5d.io"

# Each review in flight holds a connection of its own, and making one costs more than a review: when thousands of
# proxies ask at once, it is quicker to let them wait for a connection that is there.
_MAX_REVIEWS_IN_FLIGHT: Final = 32

_SELF_ACCESS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KubeTokenReviews:
    """Implements ReviewTokens with the TokenReview API.

    accept_api_tokens: a token that is not for the mesh may be one for the API server, as pods without a projected token
    have. Off where tokens are projected: every container of a pod holds such a token, and it must not buy an identity.
    """

    kube: KubeClient
    accept_api_tokens: bool = False
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MAX_REVIEWS_IN_FLIGHT), init=False)

    async def review(self, token: str) -> ReviewedToken:
        """Raises CertifyRefused."""
        status = await self._ask(token, [MESH_AUDIENCE])
        if self.accept_api_tokens and "token audiences" in status.get("error", ""):
            status = await self._ask(token, [])
        if error := status.get("error"):
            raise CertifyRefused(_cause(error), f"the API server rejected the token: {error}")
        if not status.get("authenticated"):
            raise CertifyRefused(RefusalReason.TOKEN_UNAUTHENTICATED, "the API server does not know the token")
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        return ReviewedToken(
            subject=subject_from_username(user.get("username", "")),
            pod_name=_first(extra.get(_POD_NAME)),
            pod_uid=_first(extra.get(_POD_UID)),
        )

    async def _ask(self, token: str, audiences: list[str]) -> dict[str, Any]:
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = audiences
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": spec}
        try:
            async with self._turns:
                answer = await self.kube.create(TOKEN_REVIEWS.path(), body)
        except KubeError as error:
            raise CertifyRefused(
                RefusalReason.REVIEW_FAILED, f"the token cannot be reviewed now: {error.message}"
            ) from error
        status: dict[str, Any] = answer.get("status") or {}
        return status


def _cause(error: str) -> RefusalReason:
    """The API server tells by words alone why it rejects a token."""
    if "audience" in error:
        return RefusalReason.TOKEN_WRONG_AUDIENCE
    return RefusalReason.TOKEN_EXPIRED if "expired" in error else RefusalReason.TOKEN_REJECTED


def _first(values: list[str] | None) -> str:
    return values[0] if values else ""


class MayNotReviewTokens(ConfigurationError):
    """The service account lacks the one permission that this service cannot work without."""


async def check_may_review_tokens(kube: KubeClient) -> None:
    """Raises MayNotReviewTokens. A cluster that cannot be asked now is no reason to stop: each call asks it anyway."""
    wanted = {"group": TOKEN_REVIEWS.group, "version": "v1", "resource": TOKEN_REVIEWS.plural, "verb": "create"}
    body = {
        "apiVersion": _SELF_ACCESS.api_version,
        "kind": _SELF_ACCESS.kind,
        "spec": {"resourceAttributes": wanted},
    }
    try:
        answer = await kube.create(_SELF_ACCESS.path(), body)
    except KubeError as error:
        _log.warning("cannot ask for our own permissions; going on", error=error.message)
        return
    status = answer.get("status") or {}
    if not status.get("allowed"):
        raise MayNotReviewTokens(
            "this service account may not create tokenreviews.authentication.k8s.io: "
            "bind it to the ClusterRole of the chart weft-identity"
        )


@dataclass(frozen=True, slots=True)
class KubeEvent:
    """An event about one object. kind and api_version: of that object. is_warning: else Normal."""

    namespace: str
    api_version: str
    kind: str
    name: str
    reason: str
    message: str
    is_warning: bool = False


async def post_event(kube: KubeClient, event: KubeEvent, now: datetime) -> None:
    """Create the event; a refusal is logged, since events inform and nothing depends on them."""
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{event.name}.", "namespace": event.namespace},
        "involvedObject": {
            "apiVersion": event.api_version,
            "kind": event.kind,
            "name": event.name,
            "namespace": event.namespace,
        },
        "type": "Warning" if event.is_warning else "Normal",
        "reason": event.reason,
        "message": event.message,
        "source": {"component": "linkerd-identity"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    try:
        await kube.create(EVENTS.path(event.namespace), body)
    except KubeError as error:
        _log.info("event not recorded", reason=event.reason, object=f"{event.kind}/{event.name}", error=error.message)
