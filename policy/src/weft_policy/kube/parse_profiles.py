"""Raw service profiles to values; raises as `kube.parse` does for what it cannot read."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from weft_common.kube.resource import Resource

from weft_policy.core.durations import go_duration_ms
from weft_policy.core.service_profiles import (
    DEFAULT_RETRY_BUDGET,
    AllOf,
    AnyOf,
    Condition,
    Method,
    Not,
    PathRegex,
    ProfileOverride,
    ProfileRoute,
    ResponseClass,
    RetryBudget,
    ServiceProfile,
    StatusRange,
)
from weft_policy.kube.parse_policy import object_name

Raw = dict[str, Any]

SERVICE_PROFILES: Final = Resource("linkerd.io", "v1alpha2", "serviceprofiles", "ServiceProfile")

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|Ki|Mi|e[0-9]+)?", re.ASCII)
_SUFFIX: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
}


def parse_service_profile(raw: Raw) -> ServiceProfile:
    """A linkerd.io ServiceProfile."""
    spec = raw.get("spec") or {}
    return ServiceProfile(
        name=object_name(raw),
        routes=tuple(_route(route) for route in spec.get("routes") or ()),
        budget=_budget(spec.get("retryBudget")),
        overrides=tuple(
            ProfileOverride(each["authority"], int(quantity(str(each["weight"])) * 10_000))
            for each in spec.get("dstOverrides") or ()
        ),
    )


def quantity(text: str) -> Decimal:
    """A non-negative Kubernetes quantity, such as 500m. Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no quantity: expected one such as 1, 0.5 or 500m")
    suffix = found[2] or ""
    scale = Decimal(10) ** int(suffix[1:]) if suffix.startswith("e") else _SUFFIX[suffix]
    return Decimal(found[1]) * scale


def _route(raw: Raw) -> ProfileRoute:
    timeout = raw.get("timeout")
    return ProfileRoute(
        name=raw["name"],
        condition=_condition(raw["condition"]),
        is_retryable=bool(raw.get("isRetryable")),
        timeout_ms=(go_duration_ms(timeout) or None) if timeout else None,
        response_classes=tuple(
            ResponseClass(_condition(each["condition"]), bool(each.get("isFailure")))
            for each in raw.get("responseClasses") or ()
        ),
    )


def _condition(raw: Raw) -> Condition:
    """Several fields in one condition must all hold."""
    found: list[Condition] = []
    if "all" in raw:
        found.append(AllOf(tuple(_condition(each) for each in raw["all"])))
    if "any" in raw:
        found.append(AnyOf(tuple(_condition(each) for each in raw["any"])))
    if "not" in raw:
        found.append(Not(_condition(raw["not"])))
    if raw.get("pathRegex"):
        found.append(PathRegex(raw["pathRegex"]))
    if raw.get("method"):
        found.append(Method(raw["method"]))
    if status := raw.get("status"):
        first, last = status.get("min") or 0, status.get("max") or 0
        found.append(StatusRange(first or last, last or first))
    if not found:
        raise ValueError("a condition without any field")
    return found[0] if len(found) == 1 else AllOf(tuple(found))


def _budget(raw: Raw | None) -> RetryBudget:
    if raw is None:
        return DEFAULT_RETRY_BUDGET
    return RetryBudget(float(raw["retryRatio"]), int(raw["minRetriesPerSecond"]), go_duration_ms(raw["ttl"]))
