"""`weft why`: one decision record in words. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft_cli.core.printable import printable


@dataclass(frozen=True, slots=True)
class Attempt:
    """One endpoint that was asked. where: address and, if known, pod. age_s: since discovery first named it."""

    where: str
    backend: str
    age_s: float
    after_ms: float
    why: str
    failure: str


@dataclass(frozen=True, slots=True)
class Story:
    """One request, or a connection whose bytes nobody reads, which has no method. Texts are empty, and numbers None,
    where the proxy knows nothing. carried: bytes of a connection to the server and back."""

    id: str
    pod: str
    at: str
    is_inbound: bool
    is_failure: bool
    method: str
    authority: str
    path: str
    status: int
    grpc_status: str
    total_ms: float
    headers_ms: float | None
    client: str
    client_tls: str
    target: str
    protocol: str
    detected_ms: float | None
    parent: str
    route: str
    authorization: str
    attempts: tuple[Attempt, ...]
    carried: tuple[int, int]
    closed_by: str
    reason: str
    trace_id: str


def story_text(story: Story) -> str:
    """Several lines, each ended."""
    sign, side = "×" if story.is_failure else "√", "in" if story.is_inbound else "out"
    head = (
        f"{sign} {_subject(story)} → {_outcome(story)} after {_ms(story.total_ms)}"
        f"   (id {story.id}, proxy={side} of {story.pod}, {story.at})"
    )
    rows = [("client", f"{story.client}, {story.client_tls}"), ("to", story.target), ("speaks", _protocol(story))]
    rows += _policy(story)
    rows += [
        ("tried" if number == 0 else "", _attempt(attempt, story.parent))
        for number, attempt in enumerate(story.attempts)
    ]
    if story.headers_ms is not None:
        rows.append(("answered", f"response headers after {_ms(story.headers_ms)}"))
    rows.append(("ended by", story.closed_by + (f": {story.reason}" if story.reason else "")))
    if story.trace_id:
        rows.append(("trace", story.trace_id))
    return "\n".join([head, *(f"    {name:<11}{text}" for name, text in rows)]) + "\n"


def _subject(story: Story) -> str:
    if not story.method:
        return f"connection to {story.target}"
    return printable(f"{story.method} {story.authority}{story.path}")


def _outcome(story: Story) -> str:
    if not story.method:
        sent, received = story.carried
        return f"{sent} B sent, {received} B received"
    return f"gRPC {story.grpc_status}" if story.grpc_status else str(story.status or "no response")


def stories_text(stories: Sequence[Story]) -> str:
    """An empty line between two."""
    return "\n".join(map(story_text, stories))


def _protocol(story: Story) -> str:
    if story.detected_ms is None:
        return f"{story.protocol}, as policy or the peer said"
    return f"{story.protocol}, recognised after {_ms(story.detected_ms)}"


def _policy(story: Story) -> list[tuple[str, str]]:
    rows = []
    if story.parent:
        rows.append(("policy", story.parent))
    if story.method or story.route:
        rows.append(("route", story.route or "none matched"))
    if story.is_inbound:
        rows.append(
            ("admitted", f"by {story.authorization}" if story.authorization else "no: nothing admits this client")
        )
    return rows


def _attempt(attempt: Attempt, parent: str) -> str:
    backend = f" of {attempt.backend}" if attempt.backend not in ("", parent) else ""
    text = f"{attempt.where}{backend}, known for {_age(attempt.age_s)}, after {_ms(attempt.after_ms)}"
    if attempt.why:
        text += f", because {attempt.why}" if attempt.why != "retry" else ", as a retry"
    return text + (f": {attempt.failure}" if attempt.failure else "")


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
