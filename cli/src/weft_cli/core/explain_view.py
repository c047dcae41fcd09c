"""An explanation as text for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from weft_policy.core.resilience import GrpcRetry, HttpRetry, Timeouts
from weft_policy.explain import Arrival, Explanation, Request


def explain_json(explanation: Explanation) -> str:
    """Every field, as it is named in `weft_policy.explain.Explanation`."""
    return json.dumps(asdict(explanation), indent=2)


def explain_text(request: Request, explanation: Explanation) -> str:
    """A line per fact, the verdict last."""
    return "".join(f"{name:<10}{text}\n" for name, text in _lines(request, explanation))


def _lines(request: Request, explanation: Explanation) -> Iterator[tuple[str, str]]:
    client = f"as {'/'.join(request.account)}" if request.account else "from outside the mesh"
    yield "request", f"{request.method} {request.authority}{request.target} {client}"
    yield "target", explanation.target + (f", {explanation.protocol}" if explanation.protocol else "")
    if explanation.route:
        yield "route", explanation.route + (f", rule {explanation.rule}" if explanation.rule else "")
    if limits := _limits(explanation.timeouts):
        yield "timeouts", limits
    if explanation.retry:
        yield "retries", _retries(explanation.retry)
    if budget := explanation.budget:
        share = f"{100 * budget.ratio:g} % of requests and {budget.min_per_second}/s"
        yield "retries", f"failures, at most {share}, over {budget.ttl_ms / 1000:g} s"
    for backend in explanation.backends:
        problem = f", {backend.problem}" if backend.problem else ""
        yield "backend", f"{backend.percent:g} % {backend.name}{problem}"
        for arrival in backend.arrivals:
            yield "", f"  {_arrival(arrival)}"
    for limit in sorted({arrival.rate_limit for each in explanation.backends for arrival in each.arrivals} - {""}):
        yield "limited by", f"{limit}; beyond it 429"
    yield "verdict", explanation.verdict


def _arrival(arrival: Arrival) -> str:
    place = f"{arrival.address} {arrival.pod}".strip()
    who = f" by {arrival.by}" if arrival.by else ""
    where = ", ".join(part for part in (arrival.server, arrival.route) if part)
    return f"{place}: {arrival.verdict}{who}" + (f" ({where})" if where else "")


def _limits(timeouts: Timeouts) -> str:
    named = {"request": timeouts.request_ms, "response": timeouts.response_ms, "idle": timeouts.idle_ms}
    return ", ".join(f"{name} {limit} ms" for name, limit in named.items() if limit is not None)


def _retries(retry: HttpRetry | GrpcRetry) -> str:
    if isinstance(retry, HttpRetry):
        kinds = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in retry.status_ranges)
    else:
        kinds = ", ".join(retry.statuses)
    each = f", {retry.timeout_ms} ms each" if retry.timeout_ms is not None else ""
    return f"{kinds or 'failures inside the mesh'}, {retry.limit} more at most{each}"
