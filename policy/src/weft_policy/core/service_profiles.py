"""Service profiles as values. Source: the Kubernetes contract, 3.2 and 5.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft_policy.core.objects import Name


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class PathRegex:
    """Of requests: the whole path matches."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Method:
    """Of requests."""

    method: str


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Of responses: inclusive at both ends."""

    first: int
    last: int


Condition = AllOf | AnyOf | Not | PathRegex | Method | StatusRange


@dataclass(frozen=True, slots=True)
class ResponseClass:
    """Which responses are failures, or are not. The first that fits decides."""

    condition: Condition
    is_failure: bool


@dataclass(frozen=True, slots=True)
class ProfileRoute:
    """The first that fits a request takes it. timeout_ms: None for none."""

    name: str
    condition: Condition
    is_retryable: bool = False
    timeout_ms: int | None = None
    response_classes: tuple[ResponseClass, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """ratio: retries per request. min_per_second: allowed beyond it. ttl_ms: how long requests count."""

    ratio: float = 0.2
    min_per_second: int = 10
    ttl_ms: int = 10_000


DEFAULT_RETRY_BUDGET: Final = RetryBudget()


@dataclass(frozen=True, slots=True)
class ProfileOverride:
    """authority: as written, with or without port. weight: thousandths of what is written, times ten."""

    authority: str
    weight: int


@dataclass(frozen=True, slots=True)
class ServiceProfile:
    """name: the namespace it lives in, and the name of the Service it speaks about, in full."""

    name: Name
    routes: tuple[ProfileRoute, ...] = ()
    budget: RetryBudget = DEFAULT_RETRY_BUDGET
    overrides: tuple[ProfileOverride, ...] = ()

    @property
    def service(self) -> Name | None:
        """Whom it speaks about; None when its name says nothing."""
        labels = self.name.name.split(".")
        return Name(labels[1], labels[0]) if len(labels) > 3 and labels[2] == "svc" else None
