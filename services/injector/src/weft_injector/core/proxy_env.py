"""The environment of an injected proxy, in the order that lets `$(name)` refer to what stands before it."""

from __future__ import annotations

import json
from typing import Final

from weft_injector.core import opaque_ports
from weft_injector.core.json_value import JsonObject
from weft_injector.core.names import (
    IDENTITY_DIR,
    OPAQUE_PORTS,
    PODINFO_DIR,
    PROXY_CONTAINER,
    TOKEN_DIR,
    TOKEN_FILE,
    TRACE_ATTRIBUTE_PREFIX,
)
from weft_injector.core.pod import Pod
from weft_injector.core.settings import MeshSettings, Tracing

PREFIX: Final = "LINKERD2_PROXY_"
_FIELDS: Final = (
    ("_pod_name", "metadata.name"),
    ("_pod_ns", "metadata.namespace"),
    ("_pod_uid", "metadata.uid"),
    ("_pod_ip", "status.podIP"),
    ("_pod_nodeName", "spec.nodeName"),
    ("_pod_sa", "spec.serviceAccountName"),
)
_DETECT_FOREVER: Final = "365d"
_DOMAIN: Final = "serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"


def proxy_env(
    settings: MeshSettings, pod: Pod, annotations: dict[str, str], labels: dict[str, str], trust_anchors: str
) -> list[JsonObject]:
    """annotations, labels: of the pod as it will be. trust_anchors: the PEM bundle itself."""
    env: list[JsonObject] = [_from_field(name, path) for name, path in _FIELDS]
    env += [
        _variable("_pod_containerName", PROXY_CONTAINER),
        _variable("_l5d_ns", settings.control_plane_namespace),
        _variable("_l5d_trustdomain", settings.trust_domain),
    ]
    env += _named(_process(settings))
    env += _named(_control_plane(settings))
    env += _named(_timeouts(settings))
    env += _named(_listeners(settings))
    env.append(_from_field(PREFIX + "INBOUND_IPS", "status.podIPs"))
    env += _named(_data_path(settings, pod, annotations))
    env += _named(_identity(trust_anchors))
    env += _named(_optional(settings))
    if settings.tracing is not None:
        env += _named(_tracing(settings.tracing, annotations, labels))
    return _with_additional(env, settings.additional_env)


def inbound_ports(pod: Pod) -> str:
    """The application's ports: declared ones and those of HTTP probes, sorted as text."""
    numbers = {port.number for c in pod.all_containers() for port in c.ports}
    numbers |= {number for c in pod.all_containers() for number in c.probe_ports}
    return ",".join(sorted(str(number) for number in numbers))


def log_filter(settings: MeshSettings) -> str:
    """The log filter, with HTTP headers silenced unless somebody insists."""
    quiet = "" if settings.log_http_headers == "insecure" else ",[{headers}]=off,[{request}]=off"
    return settings.log_level + quiet


Pairs = list[tuple[str, str]]


def _process(settings: MeshSettings) -> Pairs:
    pairs = [("CORES", str(settings.workers_min)), ("CORES_MIN", str(settings.workers_min))]
    if settings.workers_max:
        pairs.append(("CORES_MAX", str(settings.workers_max)))
    if settings.workers_max_ratio:
        pairs.append(("CORES_MAX_RATIO", f"{settings.workers_max_ratio:g}"))
    if settings.require_identity_ports:
        pairs.append(("INBOUND_PORTS_REQUIRE_IDENTITY", settings.require_identity_ports))
    return [
        *pairs,
        ("SHUTDOWN_ENDPOINT_ENABLED", _go_bool(settings.shutdown_endpoint)),
        ("LOG", log_filter(settings)),
        ("LOG_FORMAT", settings.log_format),
    ]


def _control_plane(settings: MeshSettings) -> Pairs:
    domain = f"{settings.control_plane_namespace}.svc.{settings.cluster_domain}."
    destination, identity = f"linkerd-destination.$(_l5d_ns).{_DOMAIN}", f"linkerd-identity.$(_l5d_ns).{_DOMAIN}"
    suffix = "." if settings.external_profiles else f"svc.{settings.cluster_domain}."
    workload = json.dumps({"ns": "$(_pod_ns)", "pod": "$(_pod_name)"}, separators=(",", ":"))
    context = json.dumps(
        {"ns": "$(_pod_ns)", "nodeName": "$(_pod_nodeName)", "pod": "$(_pod_name)"}, separators=(",", ":")
    )
    return [
        ("DESTINATION_SVC_ADDR", f"linkerd-dst-headless.{domain}:8086"),
        ("DESTINATION_SVC_NAME", destination),
        ("POLICY_SVC_ADDR", f"linkerd-policy.{domain}:8090"),
        ("POLICY_SVC_NAME", destination),
        ("IDENTITY_SVC_ADDR", f"linkerd-identity-headless.{domain}:8080"),
        ("IDENTITY_SVC_NAME", identity),
        ("POLICY_WORKLOAD", workload),
        ("DESTINATION_CONTEXT", context),
        ("DESTINATION_PROFILE_NETWORKS", settings.cluster_networks),
        ("POLICY_CLUSTER_NETWORKS", settings.cluster_networks),
        ("DESTINATION_PROFILE_SUFFIXES", suffix),
        ("INBOUND_DEFAULT_POLICY", settings.default_inbound_policy),
        ("CONTROL_STREAM_INITIAL_TIMEOUT", settings.stream_initial_timeout),
        ("CONTROL_STREAM_IDLE_TIMEOUT", settings.stream_idle_timeout),
        ("CONTROL_STREAM_LIFETIME", settings.stream_lifetime),
    ]


def _timeouts(settings: MeshSettings) -> Pairs:
    pairs = [
        ("INBOUND_CONNECT_TIMEOUT", settings.inbound_connect_timeout),
        ("OUTBOUND_CONNECT_TIMEOUT", settings.outbound_connect_timeout),
        ("INBOUND_DISCOVERY_IDLE_TIMEOUT", settings.inbound_discovery_idle),
        ("OUTBOUND_DISCOVERY_IDLE_TIMEOUT", settings.outbound_discovery_idle),
    ]
    if settings.inbound_detect_forever:
        pairs.append(("INBOUND_DETECT_TIMEOUT", _DETECT_FOREVER))
    if settings.outbound_detect_forever:
        pairs.append(("OUTBOUND_DETECT_TIMEOUT", _DETECT_FOREVER))
    return pairs


def _listeners(settings: MeshSettings) -> Pairs:
    host = "0.0.0.0" if settings.disable_ipv6 else "[::]"  # noqa: S104 - a sidecar listens for its whole pod
    loopback = f"127.0.0.1:{settings.outbound_port}"
    both = loopback if settings.disable_ipv6 else f"{loopback},[::1]:{settings.outbound_port}"
    return [
        ("CONTROL_LISTEN_ADDR", f"{host}:{settings.control_port}"),
        ("ADMIN_LISTEN_ADDR", f"{host}:{settings.admin_port}"),
        ("INBOUND_LISTEN_ADDR", f"{host}:{settings.inbound_port}"),
        ("OUTBOUND_LISTEN_ADDR", loopback),
        ("OUTBOUND_LISTEN_ADDRS", both),
    ]


def _data_path(settings: MeshSettings, pod: Pod, annotations: dict[str, str]) -> Pairs:
    pairs = [("INBOUND_PORTS", inbound_ports(pod))]
    if settings.ingress:
        pairs.append(("INGRESS_MODE", "true"))
    if settings.gateway:
        pairs.append(("INBOUND_GATEWAY_SUFFIXES", f"svc.{settings.cluster_domain}."))
    return [
        *pairs,
        ("INBOUND_ACCEPT_KEEPALIVE", "10000ms"),
        ("OUTBOUND_CONNECT_KEEPALIVE", "10000ms"),
        ("INBOUND_ACCEPT_USER_TIMEOUT", "30s"),
        ("OUTBOUND_CONNECT_USER_TIMEOUT", "30s"),
        *settings.tuning,
        ("OUTBOUND_METRICS_HOSTNAME_LABELS", _go_bool(settings.hostname_labels)),
        (
            "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
            opaque_ports.resolved(annotations.get(OPAQUE_PORTS, settings.opaque_ports), pod),
        ),
    ]


def _identity(trust_anchors: str) -> Pairs:
    return [
        ("IDENTITY_DIR", IDENTITY_DIR),
        ("IDENTITY_TRUST_ANCHORS", trust_anchors),
        ("IDENTITY_TOKEN_FILE", f"{TOKEN_DIR}/{TOKEN_FILE}"),
        ("IDENTITY_LOCAL_NAME", f"$(_pod_sa).$(_pod_ns).{_DOMAIN}"),
    ]


def _optional(settings: MeshSettings) -> Pairs:
    may_tap = f"metrics-api.{settings.viz_namespace}.{_DOMAIN}" if settings.viz_namespace else ""
    pairs = [
        ("ACCESS_LOG", settings.access_log),
        ("TAP_SVC_NAME", "" if settings.tap_disabled else may_tap),
        ("SHUTDOWN_GRACE_PERIOD", settings.shutdown_grace_period),
    ]
    return [(name, value) for name, value in pairs if value]


def _tracing(tracing: Tracing, annotations: dict[str, str], labels: dict[str, str]) -> Pairs:
    service = labels.get("app.kubernetes.io/instance") or labels.get("app.kubernetes.io/name")
    own = {
        key.removeprefix(TRACE_ATTRIBUTE_PREFIX): value
        for key, value in annotations.items()
        if key.startswith(TRACE_ATTRIBUTE_PREFIX)
    }
    attributes = {**dict(tracing.attributes), **({"service.name": service} if service else {}), **own}
    return [
        ("TRACE_ATTRIBUTES_PATH", f"{PODINFO_DIR}/labels"),
        ("TRACE_ANNOTATIONS_PATH", f"{PODINFO_DIR}/annotations"),
        ("TRACE_PROTOCOL", tracing.protocol),
        ("TRACE_SERVICE_NAME", tracing.service_name),
        ("TRACE_COLLECTOR_SVC_ADDR", tracing.collector_address),
        ("TRACE_COLLECTOR_SVC_NAME", tracing.collector_identity),
        ("TRACE_EXTRA_ATTRIBUTES", "\n".join(f"{key}={value}" for key, value in sorted(attributes.items()))),
    ]


def _with_additional(env: list[JsonObject], additional: tuple[JsonObject, ...]) -> list[JsonObject]:
    """Additional entries come last; one that repeats a name takes its place, because a list with both is invalid."""
    wanted = {entry["name"]: entry for entry in additional}
    kept = [wanted.pop(entry["name"], entry) for entry in env]
    return [*kept, *wanted.values()]


def _named(pairs: Pairs) -> list[JsonObject]:
    return [_variable(PREFIX + name, value) for name, value in pairs]


def _variable(name: str, value: str) -> JsonObject:
    return {"name": name, "value": value}


def _from_field(name: str, path: str) -> JsonObject:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _go_bool(value: bool) -> str:
    return "true" if value else "false"
