"""Events of metrics-api's Tap as lines to print, and as the JSON that scripts read (observability.md 4.4)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from weft_proto.linkerd import http_types_pb2, net_pb2, tap_pb2
from weft_proto.weft import metrics_pb2 as pb

from weft_cli.core.tap_view import Phase, TapLine, duration_text
from weft_cli.wire_text import address, grpc_text, ip_text


def tap_line(found: pb.TapEvent) -> TapLine | None:
    """None for an event of a kind that this version does not know."""
    event = found.event
    phase, stream, facts = _phase(event.http)
    if phase is None or stream is None:
        return None
    is_inbound = event.proxy_direction == tap_pb2.TapEvent.INBOUND
    far = event.source_meta if is_inbound else event.destination_meta
    return TapLine(
        phase=phase,
        id=f"{stream.base}:{stream.stream}",
        is_inbound=is_inbound,
        src=address(event.source),
        dst=address(event.destination),
        tls=far.labels.get("tls", ""),
        facts=facts,
        labels=_labels(found),
    )


def _phase(
    http: tap_pb2.TapEvent.Http,
) -> tuple[Phase | None, tap_pb2.TapEvent.Http.StreamId | None, tuple[tuple[str, str], ...]]:
    match http.WhichOneof("event"):
        case "request_init":
            init = http.request_init
            facts = (
                (":method", method_text(init.method)), (":authority", init.authority), (":path", init.path),
            )  # fmt: skip
            return Phase.REQUEST, init.id, facts
        case "response_init":
            answer = http.response_init
            latency = duration_text(answer.since_request_init.ToNanoseconds())
            return Phase.RESPONSE, answer.id, ((":status", str(answer.http_status)), ("latency", latency))
        case "response_end":
            end = http.response_end
            return Phase.END, end.id, (
                *_eos(end.eos),
                ("duration", duration_text(end.since_response_init.ToNanoseconds())),
                ("response-length", f"{end.response_bytes}B"),
            )  # fmt: skip
        case _:
            return None, None, ()


def _eos(eos: tap_pb2.Eos) -> tuple[tuple[str, str], ...]:
    match eos.WhichOneof("end"):
        case "grpc_status_code":
            return (("grpc-status", grpc_text(eos.grpc_status_code)),)
        case "reset_error_code":
            return (("reset-error", str(eos.reset_error_code)),)
        case _:
            return ()


def _labels(found: pb.TapEvent) -> dict[str, str]:
    labels = {f"rt_{key}": value for key, value in found.event.route_meta.labels.items()}
    for prefix, end, meta in (
        ("src", found.source, found.event.source_meta),
        ("dst", found.destination, found.event.destination_meta),
    ):
        labels |= {f"{prefix}_{key}": value for key, value in meta.labels.items()}
        labels |= {f"{prefix}_{key}": value for key, value in _end(end).items()}
    return labels


def _end(end: pb.End) -> dict[str, str]:
    if not end.HasField("pod"):
        return {}
    found = {"namespace": end.pod.namespace, "pod": end.pod.name}
    if end.workload.kind != "pod":
        found[end.workload.kind] = end.workload.name
    return found


def tap_json(found: pb.TapEvent) -> dict[str, Any]:
    """With the keys of `linkerd viz tap -o json`."""
    event = found.event
    http = event.http
    out: dict[str, Any] = {
        "source": _json_end(event.source, event.source_meta, found.source),
        "destination": _json_end(event.destination, event.destination_meta, found.destination),
        "routeMeta": dict(event.route_meta.labels),
        "proxyDirection": tap_pb2.TapEvent.ProxyDirection.Name(event.proxy_direction),
    }
    match http.WhichOneof("event"):
        case "request_init":
            init = http.request_init
            out["requestInitEvent"] = {
                "id": _id(init.id),
                "method": method_text(init.method),
                "scheme": _scheme_text(init.scheme),
                "authority": init.authority,
                "path": init.path,
                "headers": _headers(init.headers),
            }
        case "response_init":
            answer = http.response_init
            out["responseInitEvent"] = {
                "id": _id(answer.id),
                "sinceRequestInit": answer.since_request_init.ToJsonString(),
                "httpStatus": answer.http_status,
                "headers": _headers(answer.headers),
            }
        case "response_end":
            end = http.response_end
            kind = end.eos.WhichOneof("end")
            out["responseEndEvent"] = {
                "id": _id(end.id),
                "sinceRequestInit": end.since_request_init.ToJsonString(),
                "sinceResponseInit": end.since_response_init.ToJsonString(),
                "responseBytes": end.response_bytes,
                "trailers": _headers(end.trailers),
                "grpcStatusCode": end.eos.grpc_status_code if kind == "grpc_status_code" else None,
                "resetErrorCode": end.eos.reset_error_code if kind == "reset_error_code" else None,
            }
    return out


def _id(stream: tap_pb2.TapEvent.Http.StreamId) -> dict[str, int]:
    return {"base": stream.base, "stream": stream.stream}


def _json_end(at: net_pb2.TcpAddress, meta: tap_pb2.TapEvent.EndpointMeta, end: pb.End) -> dict[str, Any]:
    return {"ip": ip_text(at.ip), "port": at.port, "metadata": {**_end(end), **meta.labels}}


def _headers(headers: http_types_pb2.Headers) -> list[dict[str, str]]:
    out = []
    for header in headers.headers:
        try:
            out.append({"name": header.name, "valueStr": header.value.decode()})
        except UnicodeDecodeError:
            out.append({"name": header.name, "valueBin": b64encode(header.value).decode()})
    return out


def method_text(method: http_types_pb2.HttpMethod) -> str:
    if method.WhichOneof("type") == "registered":
        return http_types_pb2.HttpMethod.Registered.Name(method.registered)
    return method.unregistered


def _scheme_text(scheme: http_types_pb2.Scheme) -> str:
    if scheme.WhichOneof("type") == "registered":
        return http_types_pb2.Scheme.Registered.Name(scheme.registered).lower()
    return scheme.unregistered
