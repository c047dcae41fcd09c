"""Which route of a ServiceProfile takes a request. Source: the Kubernetes contract, 3.2.

Patterns are read by Python here and by the engine on the data path; both know what profiles use of them.
"""

from __future__ import annotations

import re
from typing import assert_never

from weft_policy.core.service_profiles import (
    AllOf,
    AnyOf,
    Condition,
    Method,
    Not,
    PathRegex,
    ProfileRoute,
    ServiceProfile,
    StatusRange,
)


def profile_route_for(profile: ServiceProfile, method: str, path: str) -> ProfileRoute | None:
    """The first route that fits; None for the default, which has no timeout and no retries. path: without query."""
    return next((route for route in profile.routes if _holds(route.condition, method, path)), None)


def _holds(condition: Condition, method: str, path: str) -> bool:
    match condition:
        case AllOf(conditions):
            return all(_holds(each, method, path) for each in conditions)
        case AnyOf(conditions):
            return any(_holds(each, method, path) for each in conditions)
        case Not(inner):
            return not _holds(inner, method, path)
        case PathRegex(pattern):
            return _fits(pattern, path)
        case Method(wanted):
            return wanted == method
        case StatusRange():
            # Of responses; no request has a status.
            return False
        case _:
            assert_never(condition)


def _fits(pattern: str, path: str) -> bool:
    try:
        return re.fullmatch(pattern, path) is not None
    except re.error:
        # Refused by validation; a proxy that meets one leaves it out.
        return False
