"""What limits traffic by amount or by destination. Source: the Kubernetes contract, 3.3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from weft_policy.validation.authorization import networks
from weft_policy.validation.findings import Field, Finding
from weft_policy.validation.references import SERVER, SERVICE_ACCOUNT, shown, target_of

_MAX_RATE: Final = 2**32 - 1


def egress_network(obj: Field) -> Iterator[Finding]:
    """An EgressNetwork."""
    spec = obj["spec"]
    if spec["trafficPolicy"].text("") not in ("Allow", "Deny"):
        yield spec["trafficPolicy"].finding("expected Allow or Deny")
    if spec["networks"] and not any(spec["networks"].items()):
        yield spec["networks"].finding("at least one network is needed; without the list everything outside is meant")
    yield from networks(spec["networks"])


def rate_limit(obj: Field) -> Iterator[Finding]:
    """An HTTPLocalRateLimitPolicy."""
    spec = obj["spec"]
    if target_of(spec["targetRef"]) != SERVER:
        yield spec["targetRef"]["kind"].finding(f"cannot target a {shown(spec['targetRef'])}; expected a Server")
    total = None
    if spec["total"]:
        total = _rate(spec["total"])
        yield from _above_zero(spec["total"])
    overrides = list(spec["overrides"].items())
    for limit in [spec["identity"], *overrides]:
        if not limit:
            continue
        yield from _above_zero(limit)
        if total is not None and _rate(limit) > total:
            message = f"must be no more than total.requestsPerSecond ({total}), which it could never use up"
            yield limit["requestsPerSecond"].finding(message)
    for override in overrides:
        for client in override["clientRefs"].items():
            if target_of(client) != SERVICE_ACCOUNT:
                yield client["kind"].finding(f"{shown(client)} is no client; expected a ServiceAccount")


def _rate(limit: Field) -> int:
    return limit["requestsPerSecond"].whole(0, _MAX_RATE)


def _above_zero(limit: Field) -> Iterator[Finding]:
    if _rate(limit) == 0:
        yield limit["requestsPerSecond"].finding("must be greater than 0")
