"""The containers and volumes that injection adds: proxy, init container, validator, debug container."""

from __future__ import annotations

from weft_injector.core.json_value import Json, JsonObject
from weft_injector.core.names import (
    DEBUG_CONTAINER,
    IDENTITY_DIR,
    IDENTITY_VOLUME,
    INIT_CONTAINER,
    PODINFO_DIR,
    PODINFO_VOLUME,
    PROXY_CONTAINER,
    TOKEN_AUDIENCE,
    TOKEN_DIR,
    TOKEN_FILE,
    TOKEN_LIFETIME_S,
    TOKEN_VOLUME,
    VALIDATOR_CONTAINER,
)
from weft_injector.core.pod import Container, Pod
from weft_injector.core.settings import MeshSettings

_SECCOMP: JsonObject = {"type": "RuntimeDefault"}
_ON_ERROR = "FallbackToLogsOnError"
_FIREWALL_CAPABILITIES = ("NET_ADMIN", "NET_RAW")


def proxy_container(settings: MeshSettings, pod: Pod, env: list[JsonObject]) -> JsonObject:
    """The sidecar, native or classic."""
    container: dict[str, Json] = {
        "name": PROXY_CONTAINER,
        "image": str(settings.image),
        "imagePullPolicy": settings.image.pull_policy,
        "env": env,
        "ports": [
            {"name": "linkerd-proxy", "containerPort": settings.inbound_port},
            {"name": "linkerd-admin", "containerPort": settings.admin_port},
        ],
        "livenessProbe": _probe("/live", settings, settings.liveness_probe),
        "readinessProbe": _probe("/ready", settings, settings.readiness_probe),
        "securityContext": settings.security_context or _proxy_security(settings, _first(pod)),
        "terminationMessagePolicy": _ON_ERROR,
        "volumeMounts": _proxy_mounts(settings, _first(pod)),
    }
    if resources := _resources(settings):
        container["resources"] = resources
    if settings.native_sidecar:
        container["restartPolicy"] = "Always"
        if settings.await_ready:
            container["startupProbe"] = _probe("/ready", settings, settings.startup_probe)
    elif lifecycle := _lifecycle(settings):
        container["lifecycle"] = lifecycle
    return container


def init_container(settings: MeshSettings, pod: Pod) -> JsonObject:
    """Sets the firewall rules of the pod, then ends."""
    first = _first(pod)
    privileged = settings.init_privileged or settings.close_wait_s > 0
    dropped = [name for name in (first.capabilities_dropped if first else ()) if name not in _FIREWALL_CAPABILITIES]
    capabilities: dict[str, Json] = {
        "add": [*_FIREWALL_CAPABILITIES, *(_without(first.capabilities_added, _FIREWALL_CAPABILITIES) if first else ())]
    }
    if dropped:
        capabilities["drop"] = dropped
    container: dict[str, Json] = {
        "name": INIT_CONTAINER,
        "image": str(settings.image),
        "imagePullPolicy": settings.image.pull_policy,
        "command": ["/usr/lib/linkerd/linkerd2-proxy-init"],
        "args": _init_args(settings),
        "securityContext": {
            "allowPrivilegeEscalation": privileged,
            "capabilities": capabilities,
            "privileged": privileged,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": not settings.init_as_root,
            "runAsUser": 0 if settings.init_as_root else settings.init_uid,
            "runAsGroup": 0 if settings.init_as_root else settings.init_gid,
            "seccompProfile": _SECCOMP,
        },
        "terminationMessagePolicy": _ON_ERROR,
        "volumeMounts": [{"mountPath": settings.xtables_path, "name": settings.xtables_volume}],
    }
    if resources := _resources(settings):
        container["resources"] = resources
    return container


def validator_container(settings: MeshSettings) -> JsonObject:
    """With a CNI plugin: fails the pod early when the plugin did not set the rules."""
    ipv4 = settings.disable_ipv6
    listen_host = "0.0.0.0" if ipv4 else "[::]"  # noqa: S104 - the redirected connection comes from the pod itself
    container: dict[str, Json] = {
        "name": VALIDATOR_CONTAINER,
        "image": str(settings.image),
        "imagePullPolicy": settings.image.pull_policy,
        "command": ["/usr/lib/linkerd/linkerd2-network-validator"],
        "args": [
            "--log-format",
            settings.validator_log_format,
            "--log-level",
            settings.validator_log_level,
            "--connect-addr",
            settings.validator_connect_addr or ("1.1.1.1:20001" if ipv4 else "[fd00::1]:20001"),
            "--listen-addr",
            settings.validator_listen_addr or f"{listen_host}:{settings.outbound_port}",
            "--timeout",
            settings.validator_timeout,
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "seccompProfile": _SECCOMP,
        },
        "terminationMessagePolicy": _ON_ERROR,
    }
    if resources := _resources(settings):
        container["resources"] = resources
    return container


def debug_container(settings: MeshSettings) -> JsonObject:
    """A container to look at the pod's traffic from."""
    always: JsonObject = {"exec": {"command": ["true"]}}
    return {
        "name": DEBUG_CONTAINER,
        "image": str(settings.debug_image),
        "imagePullPolicy": settings.debug_image.pull_policy,
        "terminationMessagePolicy": _ON_ERROR,
        "livenessProbe": always,
        "readinessProbe": always,
    }


def xtables_volume(settings: MeshSettings) -> JsonObject:
    """Where iptables keeps its lock on a read-only root."""
    return {"name": settings.xtables_volume, "emptyDir": {}}


def proxy_volumes(settings: MeshSettings) -> list[JsonObject]:
    """Key and certificate, downward API when traces want it, the token that proves who the pod is."""
    podinfo: JsonObject = {
        "name": PODINFO_VOLUME,
        "downwardAPI": {
            "items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
            ]
        },
    }
    return [
        {"name": IDENTITY_VOLUME, "emptyDir": {"medium": "Memory"}},
        *([podinfo] if settings.tracing is not None else []),
        {
            "name": TOKEN_VOLUME,
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "path": TOKEN_FILE,
                            "audience": TOKEN_AUDIENCE,
                            "expirationSeconds": TOKEN_LIFETIME_S,
                        }
                    }
                ]
            },
        },
    ]


def _init_args(settings: MeshSettings) -> list[str]:
    inbound_ignored = [str(settings.control_port), str(settings.admin_port), settings.skip_inbound_ports]
    args: list[str] = []
    if settings.iptables_mode == "nft":
        args += ["--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path", "iptables-nft-save"]
    if settings.disable_ipv6:
        args.append("--ipv6=false")
    args += ["--incoming-proxy-port", str(settings.inbound_port)]
    args += ["--outgoing-proxy-port", str(settings.outbound_port)]
    args += ["--proxy-uid", str(settings.uid)]
    if settings.gid >= 0:
        args += ["--proxy-gid", str(settings.gid)]
    args += ["--inbound-ports-to-ignore", ",".join(item for item in inbound_ignored if item)]
    if settings.skip_outbound_ports:
        args += ["--outbound-ports-to-ignore", settings.skip_outbound_ports]
    if settings.close_wait_s > 0:
        args += ["--timeout-close-wait-secs", str(settings.close_wait_s)]
    if settings.init_log_format:
        args += ["--log-format", settings.init_log_format]
    if settings.init_log_level:
        args += ["--log-level", settings.init_log_level]
    if settings.skip_subnets:
        args += ["--subnets-to-ignore", settings.skip_subnets]
    return args


def _first(pod: Pod) -> Container | None:
    return pod.containers[0] if pod.containers else None


def _probe(path: str, settings: MeshSettings, timing: JsonObject) -> JsonObject:
    return {"httpGet": {"path": path, "port": settings.admin_port}, **timing}


def _proxy_security(settings: MeshSettings, first: Container | None) -> JsonObject:
    context: dict[str, Json] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": settings.uid,
        "seccompProfile": _SECCOMP,
    }
    if settings.gid >= 0:
        context["runAsGroup"] = settings.gid
    if first is not None and first.declares_capabilities:
        declared = {"add": list(first.capabilities_added), "drop": list(first.capabilities_dropped)}
        context["capabilities"] = {key: names for key, names in declared.items() if names}
    return context


def _proxy_mounts(settings: MeshSettings, first: Container | None) -> list[JsonObject]:
    mounts: list[JsonObject] = [
        {"mountPath": IDENTITY_DIR, "name": IDENTITY_VOLUME},
        {"mountPath": TOKEN_DIR, "name": TOKEN_VOLUME},
    ]
    if settings.tracing is not None:
        mounts.append({"mountPath": PODINFO_DIR, "name": PODINFO_VOLUME})
    return mounts + _token_mount(first)


def _token_mount(first: Container | None) -> list[JsonObject]:
    return [first.service_account_mount] if first and first.service_account_mount else []


def _resources(settings: MeshSettings) -> JsonObject:
    limits = {
        "cpu": settings.cpu_limit,
        "memory": settings.memory_limit,
        "ephemeral-storage": settings.ephemeral_storage_limit,
    }
    requests = {
        "cpu": settings.cpu_request,
        "memory": settings.memory_request,
        "ephemeral-storage": settings.ephemeral_storage_request,
    }
    both = {"limits": limits, "requests": requests}
    return {
        kind: {name: value for name, value in amounts.items() if value}
        for kind, amounts in both.items()
        if any(amounts.values())
    }


def _lifecycle(settings: MeshSettings) -> JsonObject:
    hooks: dict[str, Json] = {}
    if settings.await_ready:
        command = ["/usr/lib/linkerd/linkerd-await", "--timeout=2m", f"--port={settings.admin_port}"]
        hooks["postStart"] = {"exec": {"command": command}}
    if settings.wait_before_exit_s > 0:
        hooks["preStop"] = {"exec": {"command": ["/bin/sleep", str(settings.wait_before_exit_s)]}}
    return hooks


def _without(names: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    return [name for name in names if name not in others]
