"""Values the API server fills in, so that controllers and clients find what they would find on a cluster."""

from __future__ import annotations

import base64
from typing import Any, Final

from weft_local.apiserver.kinds import Kind

Object = dict[str, Any]

SERVICE_ACCOUNT_MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# Kubernetes asks for an hour and seven seconds, so that a rotating client never meets the round hour.
API_TOKEN_SECONDS: Final = 3607
_CONTAINER_FIELDS: Final = ("initContainers", "containers")


def apply_defaults(kind: Kind, obj: Object) -> Object:
    """The object with defaults filled in. The argument is not changed at the levels this touches."""
    match kind.id:
        case "/pods":
            return {**obj, "spec": pod_spec(obj["spec"])}
        case "/services":
            return {**obj, "spec": _service(obj.get("spec") or {})}
        case "/secrets":
            return _secret(obj)
        case "/namespaces":
            name = obj["metadata"]["name"]
            labels = {**(obj["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
            status = obj.get("status") or {"phase": "Active"}
            spec = obj.get("spec") or {"finalizers": ["kubernetes"]}
            return {**obj, "metadata": {**obj["metadata"], "labels": labels}, "spec": spec, "status": status}
        case "apps/deployments":
            return {**obj, "spec": _deployment(obj["spec"])}
        case "apps/replicasets" | "apps/statefulsets" | "apps/daemonsets":
            return {**obj, "spec": _controlled(kind, obj["spec"])}
        case "batch/jobs":
            return {**obj, "spec": _job(obj["spec"])}
        case _:
            return obj


def pod_spec(spec: Object) -> Object:
    result: Object = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        **spec,
    }
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        result["serviceAccountName"] = result["serviceAccount"] = account
    for field in _CONTAINER_FIELDS:
        if spec.get(field):
            result[field] = [_container(container) for container in spec[field]]
    if spec.get("volumes"):
        result["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    return result


def _container(container: Object) -> Object:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = tag in ("", "latest") and "@" not in image
    result: Object = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if latest else "IfNotPresent",
        **container,
    }
    if container.get("ports"):
        result["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(field):
            result[field] = _probe(container[field])
    if container.get("env"):
        result["env"] = [_env(variable) for variable in container["env"]]
    return result


def _probe(probe: Object) -> Object:
    result = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, **probe}
    if probe.get("httpGet"):
        result["httpGet"] = {"path": "/", "scheme": "HTTP", **probe["httpGet"]}
    if probe.get("grpc"):
        result["grpc"] = {"service": "", **probe["grpc"]}
    return result


def _env(variable: Object) -> Object:
    source = variable.get("valueFrom")
    if source and source.get("fieldRef"):
        return {**variable, "valueFrom": {**source, "fieldRef": {"apiVersion": "v1", **source["fieldRef"]}}}
    return variable


def _volume(volume: Object) -> Object:
    result = dict(volume)
    for field in ("configMap", "secret", "projected", "downwardAPI"):
        if field in result:
            result[field] = {"defaultMode": 420, **result[field]}
    if "projected" in result:
        result["projected"]["sources"] = [_projection(source) for source in result["projected"].get("sources") or []]
    if not set(result) - {"name"}:
        result["emptyDir"] = {}
    return result


def _projection(source: Object) -> Object:
    token = source.get("serviceAccountToken")
    return {**source, "serviceAccountToken": {"expirationSeconds": 3600, **token}} if token else source


def with_api_access(spec: Object, volume_name: str) -> Object:
    """The pod spec with the projected token, CA and namespace mounted in every container that has no such mount."""
    volume = {
        "name": volume_name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": API_TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [
                            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                        ]
                    }
                },
            ],
        },
    }
    mount = {"name": volume_name, "readOnly": True, "mountPath": SERVICE_ACCOUNT_MOUNT}
    result = dict(spec)
    used = False
    for field in _CONTAINER_FIELDS:
        containers = []
        for container in spec.get(field) or []:
            mounts = container.get("volumeMounts") or []
            if all(existing["mountPath"] != SERVICE_ACCOUNT_MOUNT for existing in mounts):
                used = True
                containers.append({**container, "volumeMounts": [*mounts, mount]})
            else:
                containers.append(container)
        if containers:
            result[field] = containers
    volumes = spec.get("volumes") or []
    if used and all(existing["name"] != volume_name for existing in volumes):
        result["volumes"] = [*volumes, volume]
    return result


def _service(spec: Object) -> Object:
    result: Object = {"type": "ClusterIP", "sessionAffinity": "None", **spec}
    if result["type"] != "ExternalName":
        result.setdefault("internalTrafficPolicy", "Cluster")
        result.setdefault("ipFamilies", ["IPv4"])
        result.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("ports"):
        result["ports"] = [{"protocol": "TCP", "targetPort": port["port"], **port} for port in spec["ports"]]
    return result


def _secret(obj: Object) -> Object:
    result = {"type": "Opaque", **obj}
    plain = result.pop("stringData", None)
    if plain:
        encoded = {name: base64.b64encode(str(value).encode()).decode() for name, value in plain.items()}
        result["data"] = {**(result.get("data") or {}), **encoded}
    return result


def _deployment(spec: Object) -> Object:
    result: Object = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, **spec}
    strategy = {"type": "RollingUpdate", **(spec.get("strategy") or {})}
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = {
            "maxUnavailable": "25%",
            "maxSurge": "25%",
            **(strategy.get("rollingUpdate") or {}),
        }
    result["strategy"] = strategy
    return _with_template(result)


def _controlled(kind: Kind, spec: Object) -> Object:
    result = dict(spec)
    if kind.plural != "daemonsets":
        result.setdefault("replicas", 1)
    if kind.plural == "statefulsets":
        result.setdefault("podManagementPolicy", "OrderedReady")
        result.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        result.setdefault("revisionHistoryLimit", 10)
    if kind.plural == "daemonsets":
        result.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}})
    return _with_template(result)


def _job(spec: Object) -> Object:
    result = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", **spec}
    return _with_template(result)


def _with_template(spec: Object) -> Object:
    template = spec.get("template")
    if not template:
        return spec
    return {**spec, "template": {**template, "spec": pod_spec(template["spec"])}}
