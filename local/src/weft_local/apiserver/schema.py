"""Shapes of the built-in kinds that people write by hand: unknown fields, wrong types, missing values.

A shape is data: a dictionary of fields, a one-element list for lists, a type for scalars, ANY for what is kept as it
is. Kinds without a shape are stored as they come. Messages follow the real API server's, since people search for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_local.apiserver.errors import Cause


class _Any:
    """Whatever it is, it is kept."""


class _Quantity:
    """A number or a string such as 100m or 1Gi."""


class _IntOrString:
    """A port number or name, a count or a percentage."""


ANY: Final = _Any()
QUANTITY: Final = _Quantity()
INT_OR_STRING: Final = _IntOrString()


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with free keys and values of one shape."""

    value: Any


Shape = Any
STRINGS: Final = MapOf(str)

OWNER: Final = {
    "apiVersion": str,
    "kind": str,
    "name": str,
    "uid": str,
    "controller": bool,
    "blockOwnerDeletion": bool,
}
METADATA: Final = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": STRINGS,
    "annotations": STRINGS,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": ANY,
    "deletionTimestamp": ANY,
    "deletionGracePeriodSeconds": int,
    "finalizers": [str],
    "ownerReferences": [OWNER],
    "managedFields": ANY,
    "selfLink": str,
}
LABEL_SELECTOR: Final = {
    "matchLabels": STRINGS,
    "matchExpressions": [{"key!": str, "operator!": str, "values": [str]}],
}
KEY_REF: Final = {"name": str, "key!": str, "optional": bool}
FIELD_REF: Final = {"apiVersion": str, "fieldPath!": str}
RESOURCE_FIELD_REF: Final = {"containerName": str, "resource!": str, "divisor": QUANTITY}
ENV_VAR: Final = {
    "name!": str,
    "value": str,
    "valueFrom": {
        "fieldRef": FIELD_REF,
        "resourceFieldRef": RESOURCE_FIELD_REF,
        "configMapKeyRef": KEY_REF,
        "secretKeyRef": KEY_REF,
        "fileKeyRef": ANY,
    },
}
HTTP_GET: Final = {
    "path": str,
    "port!": INT_OR_STRING,
    "host": str,
    "scheme": str,
    "httpHeaders": [{"name!": str, "value!": str}],
}
HANDLER: Final = {
    "exec": {"command": [str]},
    "httpGet": HTTP_GET,
    "tcpSocket": {"port!": INT_OR_STRING, "host": str},
    "sleep": {"seconds!": int},
}
PROBE: Final = {
    **HANDLER,
    "grpc": {"port!": int, "service": str},
    "initialDelaySeconds": int,
    "timeoutSeconds": int,
    "periodSeconds": int,
    "successThreshold": int,
    "failureThreshold": int,
    "terminationGracePeriodSeconds": int,
}
CONTAINER: Final = {
    "name!": str,
    "image": str,
    "command": [str],
    "args": [str],
    "workingDir": str,
    "ports": [{"name": str, "containerPort!": int, "protocol": str, "hostPort": int, "hostIP": str}],
    "env": [ENV_VAR],
    "envFrom": [
        {
            "prefix": str,
            "configMapRef": {"name": str, "optional": bool},
            "secretRef": {"name": str, "optional": bool},
        }
    ],
    "resources": {"limits": MapOf(QUANTITY), "requests": MapOf(QUANTITY), "claims": ANY},
    "resizePolicy": ANY,
    "restartPolicy": str,
    "restartPolicyRules": ANY,
    "volumeMounts": [
        {
            "name!": str,
            "mountPath!": str,
            "subPath": str,
            "subPathExpr": str,
            "readOnly": bool,
            "recursiveReadOnly": str,
            "mountPropagation": str,
        }
    ],
    "volumeDevices": ANY,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "startupProbe": PROBE,
    "lifecycle": {"postStart": HANDLER, "preStop": HANDLER, "stopSignal": str},
    "terminationMessagePath": str,
    "terminationMessagePolicy": str,
    "imagePullPolicy": str,
    "securityContext": {
        "privileged": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "runAsNonRoot": bool,
        "readOnlyRootFilesystem": bool,
        "allowPrivilegeEscalation": bool,
        "capabilities": {"add": [str], "drop": [str]},
        "seccompProfile": {"type!": str, "localhostProfile": str},
        "seLinuxOptions": ANY,
        "appArmorProfile": ANY,
        "windowsOptions": ANY,
        "procMount": str,
    },
    "stdin": bool,
    "stdinOnce": bool,
    "tty": bool,
}
KEY_ITEMS: Final = [{"key!": str, "path!": str, "mode": int}]
DOWNWARD_ITEMS: Final = [{"path!": str, "fieldRef": FIELD_REF, "resourceFieldRef": RESOURCE_FIELD_REF, "mode": int}]
VOLUME: Final = {
    "name!": str,
    "emptyDir": {"medium": str, "sizeLimit": QUANTITY},
    "configMap": {"name": str, "items": KEY_ITEMS, "defaultMode": int, "optional": bool},
    "secret": {"secretName": str, "items": KEY_ITEMS, "defaultMode": int, "optional": bool},
    "hostPath": {"path!": str, "type": str},
    "downwardAPI": {"items": DOWNWARD_ITEMS, "defaultMode": int},
    "projected": {
        "defaultMode": int,
        "sources": [
            {
                "serviceAccountToken": {"audience": str, "expirationSeconds": int, "path!": str},
                "configMap": {"name": str, "items": KEY_ITEMS, "optional": bool},
                "secret": {"name": str, "items": KEY_ITEMS, "optional": bool},
                "downwardAPI": {"items": DOWNWARD_ITEMS},
                "clusterTrustBundle": ANY,
                "podCertificate": ANY,
            }
        ],
    },
    "persistentVolumeClaim": {"claimName!": str, "readOnly": bool},
    "ephemeral": ANY,
    "csi": ANY,
    "nfs": ANY,
    "image": ANY,
}
POD_SPEC: Final = {
    "containers!": [CONTAINER],
    "initContainers": [CONTAINER],
    "ephemeralContainers": ANY,
    "volumes": [VOLUME],
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "activeDeadlineSeconds": int,
    "dnsPolicy": str,
    "dnsConfig": ANY,
    "nodeSelector": STRINGS,
    "serviceAccountName": str,
    "serviceAccount": str,
    "automountServiceAccountToken": bool,
    "nodeName": str,
    "hostNetwork": bool,
    "hostPID": bool,
    "hostIPC": bool,
    "hostUsers": bool,
    "hostnameOverride": str,
    "shareProcessNamespace": bool,
    "securityContext": {
        "runAsUser": int,
        "runAsGroup": int,
        "runAsNonRoot": bool,
        "fsGroup": int,
        "fsGroupChangePolicy": str,
        "supplementalGroups": [int],
        "supplementalGroupsPolicy": str,
        "seccompProfile": {"type!": str, "localhostProfile": str},
        "seLinuxOptions": ANY,
        "seLinuxChangePolicy": str,
        "appArmorProfile": ANY,
        "windowsOptions": ANY,
        "sysctls": [{"name!": str, "value!": str}],
    },
    "imagePullSecrets": [{"name": str}],
    "hostname": str,
    "subdomain": str,
    "affinity": ANY,
    "schedulerName": str,
    "tolerations": ANY,
    "hostAliases": [{"ip!": str, "hostnames": [str]}],
    "priorityClassName": str,
    "priority": int,
    "preemptionPolicy": str,
    "readinessGates": ANY,
    "runtimeClassName": str,
    "enableServiceLinks": bool,
    "overhead": ANY,
    "topologySpreadConstraints": ANY,
    "setHostnameAsFQDN": bool,
    "os": ANY,
    "schedulingGates": ANY,
    "resourceClaims": ANY,
    "resources": ANY,
}
POD_TEMPLATE: Final = {"metadata": METADATA, "spec!": POD_SPEC}
JOB_SPEC: Final = {
    "template!": POD_TEMPLATE,
    "parallelism": int,
    "completions": int,
    "completionMode": str,
    "backoffLimit": int,
    "backoffLimitPerIndex": int,
    "maxFailedIndexes": int,
    "activeDeadlineSeconds": int,
    "ttlSecondsAfterFinished": int,
    "suspend": bool,
    "selector": LABEL_SELECTOR,
    "manualSelector": bool,
    "podFailurePolicy": ANY,
    "podReplacementPolicy": str,
    "successPolicy": ANY,
    "managedBy": str,
}
SERVICE_PORT: Final = {
    "name": str,
    "port!": int,
    "targetPort": INT_OR_STRING,
    "protocol": str,
    "appProtocol": str,
    "nodePort": int,
}

# By group/plural; what follows apiVersion, kind and metadata.
SHAPES: Final[dict[str, dict[str, Shape]]] = {
    "/namespaces": {"spec": {"finalizers": [str]}, "status": ANY},
    "/pods": {"spec!": POD_SPEC, "status": ANY},
    "/services": {
        "spec": {
            "selector": STRINGS,
            "ports": [SERVICE_PORT],
            "type": str,
            "clusterIP": str,
            "clusterIPs": [str],
            "externalName": str,
            "externalIPs": [str],
            "sessionAffinity": str,
            "sessionAffinityConfig": ANY,
            "ipFamilies": [str],
            "ipFamilyPolicy": str,
            "internalTrafficPolicy": str,
            "externalTrafficPolicy": str,
            "trafficDistribution": str,
            "publishNotReadyAddresses": bool,
            "loadBalancerIP": str,
            "loadBalancerClass": str,
            "loadBalancerSourceRanges": [str],
            "allocateLoadBalancerNodePorts": bool,
            "healthCheckNodePort": int,
        },
        "status": ANY,
    },
    "/configmaps": {"data": STRINGS, "binaryData": STRINGS, "immutable": bool},
    "/secrets": {"data": STRINGS, "stringData": STRINGS, "type": str, "immutable": bool},
    "/serviceaccounts": {"secrets": ANY, "imagePullSecrets": ANY, "automountServiceAccountToken": bool},
    "apps/deployments": {
        "spec!": {
            "replicas": int,
            "selector!": LABEL_SELECTOR,
            "template!": POD_TEMPLATE,
            "strategy": {
                "type": str,
                "rollingUpdate": {"maxSurge": INT_OR_STRING, "maxUnavailable": INT_OR_STRING},
            },
            "minReadySeconds": int,
            "revisionHistoryLimit": int,
            "progressDeadlineSeconds": int,
            "paused": bool,
        },
        "status": ANY,
    },
    "apps/replicasets": {
        "spec!": {"replicas": int, "selector!": LABEL_SELECTOR, "template": POD_TEMPLATE, "minReadySeconds": int},
        "status": ANY,
    },
    "apps/statefulsets": {
        "spec!": {
            "replicas": int,
            "selector!": LABEL_SELECTOR,
            "template!": POD_TEMPLATE,
            "serviceName": str,
            "podManagementPolicy": str,
            "updateStrategy": ANY,
            "volumeClaimTemplates": ANY,
            "minReadySeconds": int,
            "revisionHistoryLimit": int,
            "ordinals": ANY,
            "persistentVolumeClaimRetentionPolicy": ANY,
        },
        "status": ANY,
    },
    "apps/daemonsets": {
        "spec!": {
            "selector!": LABEL_SELECTOR,
            "template!": POD_TEMPLATE,
            "updateStrategy": ANY,
            "minReadySeconds": int,
            "revisionHistoryLimit": int,
        },
        "status": ANY,
    },
    "batch/jobs": {"spec!": JOB_SPEC, "status": ANY},
    "batch/cronjobs": {
        "spec!": {
            "schedule!": str,
            "jobTemplate!": {"metadata": METADATA, "spec!": JOB_SPEC},
            "concurrencyPolicy": str,
            "startingDeadlineSeconds": int,
            "suspend": bool,
            "successfulJobsHistoryLimit": int,
            "failedJobsHistoryLimit": int,
            "timeZone": str,
        },
        "status": ANY,
    },
}


@dataclass(frozen=True, slots=True)
class Findings:
    """unknown: paths of fields no shape knows; causes: wrong types and missing values."""

    unknown: tuple[str, ...]
    causes: tuple[Cause, ...]


def check_shape(kind_id: str, obj: Mapping[str, Any]) -> Findings:
    """Compare an object with its kind's shape. A kind without one passes, but for its metadata."""
    unknown: list[str] = []
    causes: list[Cause] = []
    shape = SHAPES.get(kind_id)
    if shape is None:
        _check(METADATA, obj.get("metadata", {}), "metadata", unknown, causes)
    else:
        whole = {"apiVersion": str, "kind": str, "metadata": METADATA, **shape}
        _check(whole, obj, "", unknown, causes)
    return Findings(tuple(unknown), tuple(causes))


def _check(shape: Shape, value: Any, path: str, unknown: list[str], causes: list[Cause]) -> None:
    if value is None or shape is ANY:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            causes.append(_wrong_type(path, "object", value))
            return
        missing = sorted(name[:-1] for name in shape if name.endswith("!") and value.get(name[:-1]) in (None, ""))
        causes.extend(Cause(_join(path, name), "FieldValueRequired", "Required value") for name in missing)
        for name, item in value.items():
            inner = shape.get(name, shape.get(f"{name}!"))
            if inner is None:
                unknown.append(_join(path, name))
            else:
                _check(inner, item, _join(path, name), unknown, causes)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            causes.append(_wrong_type(path, "array", value))
            return
        for index, item in enumerate(value):
            if item is None:
                causes.append(Cause(f"{path}[{index}]", "FieldValueTypeInvalid", "expected a value, found null"))
            _check(shape[0], item, f"{path}[{index}]", unknown, causes)
    elif isinstance(shape, MapOf):
        if not isinstance(value, dict):
            causes.append(_wrong_type(path, "object", value))
            return
        for name, item in value.items():
            _check(shape.value, item, _join(path, name), unknown, causes)
    else:
        _check_scalar(shape, value, path, causes)


def _check_scalar(shape: Shape, value: Any, path: str, causes: list[Cause]) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if shape is QUANTITY:
        expected, fits = "quantity", is_number or isinstance(value, str)
    elif shape is INT_OR_STRING:
        expected, fits = "integer or string", isinstance(value, str) or (isinstance(value, int) and is_number)
    elif shape is int:
        expected, fits = "integer", is_number and float(value).is_integer()
    elif shape is bool:
        expected, fits = "boolean", isinstance(value, bool)
    else:
        expected, fits = "string", isinstance(value, str)
    if not fits:
        causes.append(_wrong_type(path, expected, value))


def _wrong_type(path: str, expected: str, value: Any) -> Cause:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    found = names.get(type(value), type(value).__name__)
    shown = f" {value!r}" if isinstance(value, str | int | float | bool) else ""
    return Cause(path, "FieldValueTypeInvalid", f"expected {expected}, found {found}{shown}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
