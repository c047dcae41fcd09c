"""Retries, timeouts, circuit breaking and load measuring, as a Service's annotations ask for them.

Each group is read on its own: a mistake voids its group, is reported in words, and leaves the others working.
Source: the Kubernetes contract, 4. Durations are milliseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")

_DURATION: Final = re.compile(r"\s*(\d{1,15})\s*(ms|s|m|h|d)\s*", re.ASCII)
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_GRPC_STATUSES: Final = frozenset({"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"})
_NAMED_RANGES: Final = {"5xx": (500, 599), "gateway-error": (502, 504)}
_ACCRUAL: Final = "balancer.linkerd.io/failure-accrual"
_ALPHA: Final = "balancer.alpha.linkerd.io"
# Protobuf's Duration ends here; nothing sensible is longer.
_MAX_DURATION_MS: Final = 315_576_000_000_000

ANNOTATION_PREFIXES: Final = (
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
    "balancer.linkerd.io/",
    "balancer.alpha.linkerd.io/",
)


@dataclass(frozen=True, slots=True)
class HttpRetry:
    """status_ranges: inclusive. limit: tries after the first. timeout_ms: per try, None for none.

    backoff_ms: the least wait between tries, None for the proxies' own.
    """

    status_ranges: tuple[tuple[int, int], ...] = ()
    limit: int = 1
    timeout_ms: int | None = None
    backoff_ms: int | None = None


@dataclass(frozen=True, slots=True)
class GrpcRetry:
    """statuses: by the annotation's words, sorted."""

    statuses: tuple[str, ...] = ()
    limit: int = 1
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """None for no limit."""

    request_ms: int | None = None
    response_ms: int | None = None
    idle_ms: int | None = None


NO_TIMEOUTS: Final = Timeouts()


@dataclass(frozen=True, slots=True)
class Penalty:
    """How long a broken endpoint rests. honors_retry_after: at least as long as it asked for."""

    min_ms: int = 1_000
    max_ms: int = 60_000
    jitter_ratio: float = 0.5
    honors_retry_after: bool = False


@dataclass(frozen=True, slots=True)
class ConsecutiveFailures:
    """Break after so many failures in a row."""

    max_failures: int = 7
    penalty: Penalty = Penalty()


@dataclass(frozen=True, slots=True)
class UnifiedBreaker:
    """Break on failures in a row or on a success rate below the threshold over a window."""

    max_failures: int = 7
    penalty: Penalty = Penalty()
    threshold: float = 0.8
    window_ms: int = 10_000
    min_requests: int = 5


@dataclass(frozen=True, slots=True)
class LoadPenalty:
    """Count failures as slow answers when measuring load."""

    penalty_ms: int = 5_000
    max_retry_after_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class Resilience:
    """Everything a Service asks for; None where it asks for nothing. mistakes: one line per voided group."""

    http_retry: HttpRetry | None = None
    grpc_retry: GrpcRetry | None = None
    timeouts: Timeouts = NO_TIMEOUTS
    breaker: ConsecutiveFailures | UnifiedBreaker | None = None
    load_penalty: LoadPenalty | None = None
    mistakes: tuple[str, ...] = ()


NO_RESILIENCE: Final = Resilience()


class BadAnnotation(ValueError):
    """An annotation that cannot be read. name: the annotation."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def bad_route_annotations(annotations: Mapping[str, str], *, is_grpc: bool) -> list[BadAnnotation]:
    """What a route may not carry, at most one per group. Routes have no settings of balancers but the breaker's."""
    found = []
    for read in (_grpc_retry if is_grpc else _http_retry, _timeouts, _breaker):
        try:
            read(annotations)
        except BadAnnotation as error:
            found.append(error)
    return found


def resilience_from_annotations(annotations: Mapping[str, str]) -> Resilience:
    """Read every group; never raises."""
    mistakes: list[str] = []

    def group(read: Callable[[Mapping[str, str]], T], otherwise: T) -> T:
        try:
            return read(annotations)
        except ValueError as error:
            mistakes.append(str(error))
            return otherwise

    return Resilience(
        http_retry=group(_http_retry, None),
        grpc_retry=group(_grpc_retry, None),
        timeouts=group(_timeouts, Timeouts()),
        breaker=group(_breaker, None),
        load_penalty=group(_load_penalty, None),
        mistakes=tuple(mistakes),
    )


def duration_ms(text: str) -> int:
    """A whole number and one unit, or a bare 0. Raises ValueError."""
    if text.strip() == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError("expected a whole number with one of ms, s, m, h, d")
    milliseconds = int(found[1]) * _UNIT_MS[found[2]]
    if milliseconds > _MAX_DURATION_MS:
        raise ValueError("expected a shorter duration")
    return milliseconds


def status_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """A comma-separated list without spaces of 5xx, gateway-error, codes and a-b ranges. Raises ValueError."""
    ranges = []
    for item in text.lower().split(","):
        if item in _NAMED_RANGES:
            ranges.append(_NAMED_RANGES[item])
            continue
        first, dash, last = item.partition("-")
        start, end = _status(first), _status(last if dash else first)
        if start > end:
            raise ValueError(f"{item} ends before it starts")
        ranges.append((start, end))
    return tuple(ranges)


def _status(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) == 3 and 100 <= int(text) <= 599):
        raise ValueError(f"{text!r} is not 5xx, gateway-error or a status from 100 to 599")
    return int(text)


def _grpc_statuses(text: str) -> tuple[str, ...]:
    found = set(text.lower().split(","))
    if unknown := found - _GRPC_STATUSES:
        raise ValueError(f"{min(unknown)!r} is not one of {', '.join(sorted(_GRPC_STATUSES))}")
    return tuple(sorted(found))


def _http_retry(annotations: Mapping[str, str]) -> HttpRetry | None:
    statuses = _read(annotations, "retry.linkerd.io/http", status_ranges)
    limit, timeout_ms = _retry_bounds(annotations)
    if statuses is None and limit is None and timeout_ms is None:
        return None
    return HttpRetry(statuses or (), limit or 1, timeout_ms)


def _grpc_retry(annotations: Mapping[str, str]) -> GrpcRetry | None:
    statuses = _read(annotations, "retry.linkerd.io/grpc", _grpc_statuses)
    limit, timeout_ms = _retry_bounds(annotations)
    if statuses is None and limit is None and timeout_ms is None:
        return None
    return GrpcRetry(statuses or (), limit or 1, timeout_ms)


def _retry_bounds(annotations: Mapping[str, str]) -> tuple[int | None, int | None]:
    limit = _read(annotations, "retry.linkerd.io/limit", lambda text: _whole(text, 0, 65_535))
    return limit or None, _read(annotations, "retry.linkerd.io/timeout", duration_ms) or None


def _timeouts(annotations: Mapping[str, str]) -> Timeouts:
    kinds = ("request", "response", "idle")
    return Timeouts(*(_read(annotations, f"timeout.linkerd.io/{kind}", duration_ms) or None for kind in kinds))


def _breaker(annotations: Mapping[str, str]) -> ConsecutiveFailures | UnifiedBreaker | None:
    mode = annotations.get(_ACCRUAL)
    if mode is None:
        return None
    max_failures = _or(_read(annotations, f"{_ACCRUAL}-consecutive-max-failures", lambda t: _whole(t, 0, 2**32 - 1)), 7)
    if mode == "consecutive":
        return ConsecutiveFailures(max_failures, _penalty(annotations, honors_retry_after=False))
    if mode != "unified":
        raise BadAnnotation(_ACCRUAL, f"{_ACCRUAL}={mode!r}: expected consecutive or unified")
    honors = _read(annotations, f"{_ALPHA}/failure-accrual-honor-retry-after", _boolean) or False
    rate = f"{_ALPHA}/failure-accrual-success-rate"
    window_ms = _or(_read(annotations, f"{rate}-window", duration_ms), 10_000)
    if window_ms < 10:
        raise BadAnnotation(f"{rate}-window", f"{rate}-window: expected at least 10ms")
    return UnifiedBreaker(
        max_failures=max_failures,
        penalty=_penalty(annotations, honors_retry_after=honors),
        threshold=_or(_read(annotations, f"{rate}-threshold", lambda text: _fraction(text, 1)), 0.8),
        window_ms=window_ms,
        min_requests=_or(_read(annotations, f"{rate}-min-requests", lambda text: _whole(text, 0, 1_000_000)), 5),
    )


def _penalty(annotations: Mapping[str, str], *, honors_retry_after: bool) -> Penalty:
    low = _or(_read(annotations, f"{_ACCRUAL}-consecutive-min-penalty", duration_ms), 1_000)
    high = _or(_read(annotations, f"{_ACCRUAL}-consecutive-max-penalty", duration_ms), 60_000)
    if low > high or high == 0:
        name = f"{_ACCRUAL}-consecutive-max-penalty"
        raise BadAnnotation(name, f"{name}: expected more than 0 and no less than the minimum")
    jitter = _or(_read(annotations, f"{_ACCRUAL}-consecutive-jitter-ratio", lambda text: _fraction(text, 100)), 0.5)
    return Penalty(low, high, jitter, honors_retry_after)


def _load_penalty(annotations: Mapping[str, str]) -> LoadPenalty | None:
    if not _read(annotations, f"{_ALPHA}/penalize-failures", _boolean):
        return None
    return LoadPenalty(
        _or(_read(annotations, f"{_ALPHA}/load-biaser-penalty", duration_ms), 5_000),
        _or(_read(annotations, f"{_ALPHA}/load-biaser-max-retry-after", duration_ms), 300_000),
    )


def _read(annotations: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T | None:
    text = annotations.get(name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise BadAnnotation(name, f"{name}={text!r}: {error}") from error


def _or(found: T | None, default: T) -> T:
    return default if found is None else found


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
        raise ValueError(f"expected a whole number from {low} to {high}")
    return int(text)


def _fraction(text: str, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"expected a number from 0 to {high:g}") from error
    if not math.isfinite(value) or not 0 <= value <= high:
        raise ValueError(f"expected a number from 0 to {high:g}")
    return value


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"
