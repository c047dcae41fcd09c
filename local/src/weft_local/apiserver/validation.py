"""What an object must satisfy beyond its shape: names, references within a pod, immutable fields, CRD schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from weft_local.apiserver.errors import Cause
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.selectors import matches_labels, selector_from_object

_DNS_LABEL: Final = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_DNS_SUBDOMAIN: Final = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
_LABEL_VALUE: Final = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_LABEL_KEY: Final = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")

_LABEL_NAMED: Final = frozenset({"/namespaces", "/services"})
# RBAC and events carry names that are not DNS names.
_FREELY_NAMED: Final = frozenset({"rbac.authorization.k8s.io", "events.k8s.io"})

_WORKLOADS: Final = frozenset({"apps/deployments", "apps/replicasets", "apps/statefulsets", "apps/daemonsets"})


def validate(kind: Kind, obj: Mapping[str, Any], version: str) -> list[Cause]:
    """Everything wrong with an object that has passed its shape, as far as this server checks."""
    causes = _metadata(kind, obj["metadata"])
    if schema := kind.schema(version):
        causes += schema.validate(obj)
    if kind.id == "/pods":
        causes += _pod_spec(obj["spec"], "spec")
    elif kind.id in _WORKLOADS:
        causes += _workload(obj["spec"])
    elif kind.id == "batch/jobs":
        causes += _pod_spec(obj["spec"]["template"]["spec"], "spec.template.spec")
    elif kind.id == "/services":
        causes += _service(obj.get("spec") or {})
    return causes


def validate_update(kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Cause]:
    """Changes of what may not change."""
    causes = []
    if kind.id in _WORKLOADS and old["spec"].get("selector") != new["spec"].get("selector"):
        causes.append(Cause("spec.selector", "FieldValueInvalid", "field is immutable"))
    if kind.id == "/pods" and _fixed_pod_spec(old["spec"]) != _fixed_pod_spec(new["spec"]):
        text = "Forbidden: pod updates may not change fields other than images, tolerations and deadlines"
        causes.append(Cause("spec", "FieldValueForbidden", text))
    if kind.id == "batch/jobs" and old["spec"].get("template") != new["spec"].get("template"):
        causes.append(Cause("spec.template", "FieldValueInvalid", "field is immutable"))
    has_new_data = any(old.get(name) != new.get(name) for name in ("data", "binaryData"))
    if kind.id in ("/configmaps", "/secrets") and old.get("immutable") and has_new_data:
        causes.append(Cause("data", "FieldValueForbidden", "field is immutable when `immutable` is set"))
    return causes


def _fixed_pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pod's spec without what may change: what is left is what the node has started. Binding sets nodeName."""
    free = ("nodeName", "tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "ephemeralContainers")
    fixed = {name: value for name, value in spec.items() if name not in free}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            fixed[field] = [{**container, "image": ""} for container in spec[field]]
    return fixed


def _metadata(kind: Kind, metadata: Mapping[str, Any]) -> list[Cause]:
    causes = []
    name = metadata.get("name", "")
    if kind.group in _FREELY_NAMED or kind.id == "/events":
        fits = bool(name) and "/" not in name
    elif kind.id in _LABEL_NAMED:
        fits = bool(_DNS_LABEL.match(name))
    else:
        fits = bool(_DNS_SUBDOMAIN.match(name)) and len(name) <= 253
    if not fits:
        text = f"Invalid value: \"{name}\": must consist of lower case alphanumeric characters, '-' or '.'"
        causes.append(Cause("metadata.name", "FieldValueInvalid", text if name else "Required value"))
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.match(key):
            causes.append(Cause("metadata.labels", "FieldValueInvalid", f'Invalid value: "{key}": not a label key'))
        elif not _LABEL_VALUE.match(value) or len(value) > 63:
            causes.append(Cause("metadata.labels", "FieldValueInvalid", f'Invalid value: "{value}": not a label value'))
    return causes


def _workload(spec: Mapping[str, Any]) -> list[Cause]:
    template = spec.get("template")
    if template is None:
        return []
    causes = _pod_spec(template["spec"], "spec.template.spec")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not matches_labels(selector_from_object(spec["selector"]), labels):
        text = "Invalid value: `selector` does not match template `labels`"
        causes.append(Cause("spec.template.metadata.labels", "FieldValueInvalid", text))
    return causes


def _pod_spec(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes = []
    if not spec.get("containers"):
        causes.append(Cause(f"{path}.containers", "FieldValueRequired", "Required value"))
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    seen: set[str] = set()
    for index, name in enumerate(volumes):
        if name in seen:
            causes.append(_duplicate(f"{path}.volumes[{index}].name", name))
        seen.add(name)
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or []):
            where = f"{path}.{field}[{index}]"
            name = container["name"]
            if name in names:
                causes.append(_duplicate(f"{where}.name", name))
            elif not _DNS_LABEL.match(name):
                causes.append(Cause(f"{where}.name", "FieldValueInvalid", f'Invalid value: "{name}": not a DNS label'))
            names.add(name)
            if not container.get("image"):
                causes.append(Cause(f"{where}.image", "FieldValueRequired", "Required value"))
            causes += _ports(container.get("ports") or [], f"{where}.ports")
            for mount_index, mount in enumerate(container.get("volumeMounts") or []):
                if mount["name"] not in volumes:
                    at = f"{where}.volumeMounts[{mount_index}].name"
                    causes.append(Cause(at, "FieldValueNotFound", f'Not found: "{mount["name"]}"'))
    if spec.get("restartPolicy") not in (None, "Always", "OnFailure", "Never"):
        text = f'Unsupported value: "{spec["restartPolicy"]}": supported values: "Always", "OnFailure", "Never"'
        causes.append(Cause(f"{path}.restartPolicy", "FieldValueNotSupported", text))
    return causes


def _ports(ports: list[Mapping[str, Any]], path: str) -> list[Cause]:
    return [
        Cause(f"{path}[{index}].containerPort", "FieldValueInvalid", "must be between 1 and 65535, inclusive")
        for index, port in enumerate(ports)
        if not 1 <= port["containerPort"] <= 65535
    ]


def _service(spec: Mapping[str, Any]) -> list[Cause]:
    ports = spec.get("ports") or []
    causes = []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(Cause("spec.ports", "FieldValueRequired", "Required value"))
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            causes.append(Cause(f"spec.ports[{index}].name", "FieldValueRequired", "Required value"))
        if not 1 <= port["port"] <= 65535:
            causes.append(
                Cause(f"spec.ports[{index}].port", "FieldValueInvalid", "must be between 1 and 65535, inclusive")
            )
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        causes.append(Cause("spec.externalName", "FieldValueRequired", "Required value"))
    return causes


def _duplicate(path: str, name: str) -> Cause:
    return Cause(path, "FieldValueDuplicate", f'Duplicate value: "{name}"')
