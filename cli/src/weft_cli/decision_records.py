"""Decision records of metrics-api's Decisions as stories to print, and as JSON."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from weft_proto.linkerd import meta_pb2
from weft_proto.weft import decision_pb2
from weft_proto.weft import metrics_pb2 as pb

from weft_cli.core.why_view import Attempt, Story
from weft_cli.wire_text import address, grpc_text

_CLOSERS: Final = {
    decision_pb2.Decision.SERVER: "the server",
    decision_pb2.Decision.CLIENT: "the client",
    decision_pb2.Decision.PROXY: "the proxy",
}
_NS_PER_MS: Final = 1e6


def story_of(found: pb.PodDecision) -> Story:
    """What the record says, in the CLI's own values."""
    decision = found.decision
    status = grpc_text(decision.grpc_status) if decision.HasField("grpc_status") else ""
    return Story(
        id=decision.id,
        pod=found.pod.name,
        at=decision.started_at.ToJsonString(),
        is_inbound=decision.direction == decision_pb2.Decision.INBOUND,
        is_failure=decision.is_failure,
        method=decision.method,
        authority=decision.authority,
        path=decision.path,
        status=decision.http_status,
        grpc_status=status,
        total_ms=decision.total.ToNanoseconds() / _NS_PER_MS,
        headers_ms=_ms(decision, "to_response_headers"),
        client=_place(address(decision.client), found.client),
        client_tls=_tls(decision),
        target=_place(address(decision.target), found.target),
        protocol=decision.protocol,
        detected_ms=_ms(decision, "detected_in"),
        parent=_meta(decision, "parent"),
        route=_meta(decision, "route"),
        authorization=_meta(decision, "authorization"),
        attempts=tuple(_attempt(attempt) for attempt in decision.tries),
        carried=(decision.request_bytes, decision.response_bytes),
        closed_by=_CLOSERS.get(decision.closed_by, "nobody we know"),
        reason=decision.reason,
        trace_id=decision.trace_id,
    )


def decision_json(found: pb.PodDecision) -> dict[str, Any]:
    """The record with the field names of its proto."""
    return MessageToDict(found, preserving_proto_field_name=True)


def _ms(decision: decision_pb2.Decision, field: str) -> float | None:
    return getattr(decision, field).ToNanoseconds() / _NS_PER_MS if decision.HasField(field) else None  # type: ignore[arg-type]


def _tls(decision: decision_pb2.Decision) -> str:
    facts = decision.client_tls
    match facts.get("tls", ""):
        case "true":
            return f"mutual TLS as {facts.get('client_id') or 'nobody'}"
        case "opaque":
            return f"TLS to {facts.get('sni', '')}, passed through"
        case _:
            return f"no TLS ({facts.get('no_tls_reason', '')})"


def _place(at: str, end: pb.End) -> str:
    if not end.HasField("pod"):
        return at
    workload = end.workload
    owner = f", {workload.kind}/{workload.name}" if workload.kind != "pod" else ""
    return f"{at} (pod {end.pod.name}{owner})"


def _meta(decision: decision_pb2.Decision, field: str) -> str:
    return _name(getattr(decision, field)) if decision.HasField(field) else ""  # type: ignore[arg-type]


def _name(meta: meta_pb2.Metadata) -> str:
    if meta.WhichOneof("kind") == "default":
        return f"built in: {meta.default}"
    resource = meta.resource
    namespace = f"{resource.namespace}/" if resource.namespace else ""
    port = f":{resource.port}" if resource.port else ""
    return f"{resource.kind} {namespace}{resource.name}{port}"


def _attempt(attempt: decision_pb2.Try) -> Attempt:
    pod = attempt.labels.get("pod", "")
    return Attempt(
        where=address(attempt.endpoint) + (f" (pod {pod})" if pod else ""),
        backend=_name(attempt.backend) if attempt.HasField("backend") else "",
        age_s=attempt.endpoint_age.ToNanoseconds() / 1e9,
        after_ms=attempt.chosen_after.ToNanoseconds() / _NS_PER_MS,
        why=attempt.why,
        failure=attempt.failure,
    )
