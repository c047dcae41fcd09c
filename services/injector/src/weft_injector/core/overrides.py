"""Configuration annotations: the whole table, who inherits what, and how a value changes the settings.

Effective annotations are the pod's own over those its namespace passes on. A value that cannot be read is a warning and
changes nothing, except where going on would be unsafe (BadSetting).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from weft_injector.core import grammar
from weft_injector.core.json_value import JsonObject
from weft_injector.core.names import (
    ADDITIONAL_ENV,
    CONFIG_ALPHA_PREFIX,
    CONFIG_BETA_PREFIX,
    CONFIG_PREFIX,
    DISABLE_TAP,
    INJECT,
    INJECT_INGRESS,
    OPAQUE_PORTS,
)
from weft_injector.core.settings import BadSetting, MeshSettings

Apply = Callable[[MeshSettings, str], MeshSettings]
INBOUND_POLICIES: Final = frozenset(
    {
        "all-unauthenticated",
        "all-authenticated",
        "cluster-unauthenticated",
        "cluster-authenticated",
        "deny",
        "audit",
    }
)
NATIVE_SIDECAR: Final = "proxy-enable-native-sidecar"


@dataclass(frozen=True, slots=True)
class ConfigAnnotation:
    """key: with its prefix. inherited: from namespaces. apply: raises ValueError (warn) or BadSetting (refuse)."""

    key: str
    inherited: bool
    apply: Apply


def _field(name: str, parse: Callable[[str], Any] = str) -> Apply:
    def apply(settings: MeshSettings, value: str) -> MeshSettings:
        return replace(settings, **{name: parse(value)})

    return apply


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return value

    return parse


def _header_logging(settings: MeshSettings, value: str) -> MeshSettings:
    if value not in {"off", "insecure"}:
        raise BadSetting(f"{CONFIG_PREFIX}proxy-log-http-headers={value!r}: expected off or insecure")
    return replace(settings, log_http_headers=value)


def _cpu_request(settings: MeshSettings, value: str) -> MeshSettings:
    return replace(settings, cpu_request=value, workers_min=max(1, grammar.whole_cores(value)))


def _cpu_limit(settings: MeshSettings, value: str) -> MeshSettings:
    return replace(settings, cpu_limit=value, workers_max=max(1, grammar.whole_cores(value)))


def _close_wait(settings: MeshSettings, value: str) -> MeshSettings:
    seconds = grammar.duration_ns(value) // 10**9
    if seconds > 0 and not settings.init_as_root:
        raise BadSetting(f"{CONFIG_PREFIX}close-wait-timeout needs the Helm value proxyInit.runAsRoot=true")
    return replace(settings, close_wait_s=seconds)


def _unchanged(settings: MeshSettings, _value: str) -> MeshSettings:
    """For annotations that something else reads: decision.py, opaque_ports.py, or nobody (pod-inbound-ports)."""
    return settings


def _config(name: str, apply: Apply, *, inherited: bool = True) -> ConfigAnnotation:
    return ConfigAnnotation(CONFIG_PREFIX + name, inherited, apply)


CONFIG_ANNOTATIONS: Final = (
    _config("admin-port", _field("admin_port", grammar.port)),
    _config("control-port", _field("control_port", grammar.port)),
    _config("inbound-port", _field("inbound_port", grammar.port)),
    _config("outbound-port", _field("outbound_port", grammar.port)),
    _config("pod-inbound-ports", _unchanged),
    _config("proxy-image", _field("image_name")),
    _config("proxy-version", _field("image_version")),
    _config("image-pull-policy", _field("image_pull_policy", _one_of("Always", "IfNotPresent", "Never"))),
    _config("debug-image", _field("debug_image_name"), inherited=False),
    _config("debug-image-version", _field("debug_image_version"), inherited=False),
    _config(
        "debug-image-pull-policy",
        _field("debug_image_pull_policy", _one_of("Always", "IfNotPresent", "Never")),
        inherited=False,
    ),
    _config("enable-debug-sidecar", _field("debug_sidecar", grammar.boolean)),
    _config("proxy-cpu-request", _cpu_request),
    _config("proxy-cpu-limit", _cpu_limit),
    _config("proxy-cpu-ratio-limit", _field("workers_max_ratio", grammar.ratio), inherited=False),
    _config("proxy-memory-request", _field("memory_request", grammar.quantity)),
    _config("proxy-memory-limit", _field("memory_limit", grammar.quantity)),
    _config("proxy-ephemeral-storage-request", _field("ephemeral_storage_request", grammar.quantity)),
    _config("proxy-ephemeral-storage-limit", _field("ephemeral_storage_limit", grammar.quantity)),
    _config("proxy-uid", _field("uid", grammar.unsigned)),
    _config("proxy-gid", _field("gid", grammar.integer)),
    _config("proxy-log-level", _field("log_level")),
    _config("proxy-log-format", _field("log_format", _one_of("plain", "json"))),
    _config("proxy-log-http-headers", _header_logging),
    ConfigAnnotation(DISABLE_TAP, True, _field("tap_disabled", grammar.boolean)),
    _config("access-log", _field("access_log", _one_of("apache", "json"))),
    _config("proxy-admin-shutdown", _field("shutdown_endpoint", grammar.enabled)),
    _config("enable-external-profiles", _field("external_profiles", grammar.boolean)),
    _config("skip-inbound-ports", _field("skip_inbound_ports", grammar.port_list)),
    _config("skip-outbound-ports", _field("skip_outbound_ports", grammar.port_list)),
    _config("skip-subnets", _field("skip_subnets", grammar.networks)),
    _config("opaque-ports", _unchanged),
    _config("proxy-require-identity-inbound-ports", _field("require_identity_ports", grammar.port_list)),
    _config("default-inbound-policy", _field("default_inbound_policy", _one_of(*sorted(INBOUND_POLICIES)))),
    _config("proxy-outbound-connect-timeout", _field("outbound_connect_timeout", grammar.milliseconds)),
    _config("proxy-inbound-connect-timeout", _field("inbound_connect_timeout", grammar.milliseconds)),
    _config("proxy-outbound-discovery-cache-unused-timeout", _field("outbound_discovery_idle", grammar.seconds)),
    _config("proxy-inbound-discovery-cache-unused-timeout", _field("inbound_discovery_idle", grammar.seconds)),
    _config("proxy-disable-outbound-protocol-detect-timeout", _field("outbound_detect_forever", grammar.boolean)),
    _config("proxy-disable-inbound-protocol-detect-timeout", _field("inbound_detect_forever", grammar.boolean)),
    _config("proxy-metrics-hostname-labels", _field("hostname_labels", grammar.boolean)),
    _config("shutdown-grace-period", _field("shutdown_grace_period", grammar.duration)),
    _config("proxy-await", _field("await_ready", grammar.enabled)),
    # The three spellings of one setting; the last that applies wins, so the preferred one comes last.
    ConfigAnnotation(CONFIG_ALPHA_PREFIX + NATIVE_SIDECAR, True, _field("native_sidecar", grammar.boolean)),
    ConfigAnnotation(CONFIG_BETA_PREFIX + NATIVE_SIDECAR, False, _field("native_sidecar", grammar.boolean)),
    _config(NATIVE_SIDECAR, _field("native_sidecar", grammar.boolean)),
    ConfigAnnotation(
        CONFIG_ALPHA_PREFIX + "proxy-wait-before-exit-seconds", True, _field("wait_before_exit_s", grammar.unsigned)
    ),
    _config("enable-gateway", _field("gateway", grammar.boolean), inherited=False),
    _config("close-wait-timeout", _close_wait, inherited=False),
    _config("proxy-additional-env", _unchanged),
)
INHERITED: Final = frozenset(row.key for row in CONFIG_ANNOTATIONS if row.inherited)
# Labels of the admission metrics: annotation to label name.
METRIC_LABELS: Final = {
    row.key: row.key.removeprefix(CONFIG_PREFIX).replace("-", "_")
    for row in CONFIG_ANNOTATIONS
    if row.inherited and row.key.startswith(CONFIG_PREFIX)
}


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings for one pod. written: annotations the pod gets from its namespace. warnings: values left aside."""

    settings: MeshSettings
    written: dict[str, str]
    warnings: tuple[str, ...]


def effective_settings(
    defaults: MeshSettings, namespace_annotations: Mapping[str, str], pod_annotations: Mapping[str, str]
) -> Effective:
    """Helm values, then what the namespace passes on, then the pod's own. Raises BadSetting."""
    written = {
        key: value
        for key, value in namespace_annotations.items()
        if (key in INHERITED or key == INJECT) and key not in pod_annotations and key != OPAQUE_PORTS
    }
    warnings: list[str] = []
    merged_env = _additional_env(defaults.additional_env, namespace_annotations, pod_annotations, warnings)
    settings = replace(defaults, additional_env=merged_env)
    annotations = {**written, **pod_annotations}
    for row in CONFIG_ANNOTATIONS:
        if row.key in annotations:
            try:
                settings = row.apply(settings, annotations[row.key])
            except BadSetting:
                raise
            except ValueError as error:
                warnings.append(f"{row.key}={annotations[row.key]!r} left aside: {error}")
    ingress = annotations.get(INJECT) == INJECT_INGRESS
    return Effective(replace(settings, ingress=ingress), written, tuple(warnings))


def _additional_env(
    helm: tuple[JsonObject, ...],
    namespace_annotations: Mapping[str, str],
    pod_annotations: Mapping[str, str],
    warnings: list[str],
) -> tuple[JsonObject, ...]:
    """Entries merged by name: Helm, then namespace, then pod; a later one takes the earlier one's place."""
    merged = {str(entry.get("name")): entry for entry in helm}
    for source in (namespace_annotations, pod_annotations):
        if text := source.get(ADDITIONAL_ENV):
            try:
                merged |= {str(entry["name"]): entry for entry in _env_entries(text)}
            except ValueError as error:
                warnings.append(f"{ADDITIONAL_ENV} left aside: {error}")
    return tuple(merged.values())


def _env_entries(text: str) -> list[JsonObject]:
    entries = json.loads(text)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.get("name") for entry in entries):
        raise ValueError("expected a JSON list of variables, each with a name")
    return entries
