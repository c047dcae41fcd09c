"""Cases of a policy test: a request, and what it is expected to meet. Source of the form: docs/tasks/explain.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_policy.explain import Explanation

EXPECTATIONS: Final = ("verdict", "route", "rule", "backends", "by")
_CASE: Final = frozenset({"name", "request", "headers", "as", "expect"})


@dataclass(frozen=True, slots=True)
class Case:
    """headers: `name:value`. account: as of --as. expect: some of EXPECTATIONS."""

    name: str
    method: str
    url: str
    headers: tuple[str, ...]
    account: str | None
    expect: Mapping[str, Any]


def cases_from(content: Any) -> list[Case]:
    """Raises ValueError naming the case and its field."""
    listed = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError("cases: expected a list with at least one case")
    return [_case(raw, f"cases[{number}]") for number, raw in enumerate(listed)]


def _case(raw: Any, place: str) -> Case:
    if not isinstance(raw, dict):
        raise ValueError(f"{place}: expected an object")
    if unknown := sorted(set(raw) - _CASE):
        raise ValueError(f"{place}.{unknown[0]}: unknown field; expected one of {', '.join(sorted(_CASE))}")
    method, _, url = str(raw.get("request") or "").partition(" ")
    if not method or not url:
        raise ValueError(f"{place}.request: expected METHOD URL")
    headers, expect = raw.get("headers") or {}, raw.get("expect")
    if not isinstance(headers, dict):
        raise ValueError(f"{place}.headers: expected an object")
    if not isinstance(expect, dict) or not expect:
        raise ValueError(f"{place}.expect: expected at least one of {', '.join(EXPECTATIONS)}")
    if unknown := sorted(set(expect) - set(EXPECTATIONS)):
        raise ValueError(f"{place}.expect.{unknown[0]}: unknown field; expected one of {', '.join(EXPECTATIONS)}")
    account = raw.get("as")
    return Case(
        name=str(raw.get("name") or f"{method} {url}"),
        method=method,
        url=url.strip(),
        headers=tuple(f"{name}:{value}" for name, value in headers.items()),
        account=None if account is None else str(account),
        expect=expect,
    )


def differences(case: Case, found: Explanation) -> Iterator[str]:
    """A line for each expectation that does not hold."""
    actual = {
        "verdict": found.verdict,
        "route": found.route,
        "rule": found.rule,
        "backends": {backend.name: round(backend.percent, 1) for backend in found.backends},
        "by": sorted({arrival.by for backend in found.backends for arrival in backend.arrivals if arrival.by}),
    }
    for field in EXPECTATIONS:
        if field not in case.expect:
            continue
        wanted = case.expect[field]
        if field == "by" and isinstance(wanted, str):
            wanted = [wanted]
        if wanted != actual[field]:
            yield f"{field}: expected {wanted!r}, found {actual[field]!r}"
