"""The environment of a container: values, references to ConfigMaps, Secrets, pod fields and resources, $(NAME).

Decides from what it is given; the caller fetches the referenced objects. A missing one that is not optional is a
ReferenceMissing, which makes the container wait with CreateContainerConfigError and be tried again.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weft_local.node.core.spec import ContainerSpec, Json, PodSpec, quantity

_EXPANSION: Final = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT: Final = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class ReferenceMissing(Exception):
    """A ConfigMap, Secret or key the container needs does not exist (yet)."""


@dataclass(frozen=True, slots=True)
class References:
    """What a pod may refer to. Keys of config_maps and secrets: object name in the pod's namespace."""

    config_maps: Mapping[str, Json]
    secrets: Mapping[str, Json]
    node_ip: str = ""
    pod_ip: str = ""


def environment(pod: PodSpec, container: ContainerSpec, refs: References, base: Mapping[str, str]) -> dict[str, str]:
    """base, then envFrom, then env; each value may use what stands before it. Raises ReferenceMissing, ValueError."""
    result = dict(base)
    for source in container.env_from:
        prefix = source.get("prefix", "")
        for name, value in _whole_source(source, refs).items():
            result[prefix + name] = value
    for entry in container.env:
        text = _value(pod, container, entry, refs, result)
        if text is not None:
            result[entry["name"]] = text
    return result


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME); unknown names stay as written, $$ is one dollar sign."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _EXPANSION.sub(replace, text)


def field_value(pod: PodSpec, path: str, refs: References) -> str:
    """A fieldRef. Raises ValueError for a field that cannot be referred to."""
    metadata = pod.metadata
    if match := _SUBSCRIPT.match(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    plain = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "metadata.labels": _listing(metadata.get("labels")),
        "metadata.annotations": _listing(metadata.get("annotations")),
        "spec.nodeName": pod.node_name,
        "spec.serviceAccountName": pod.service_account,
        "status.podIP": refs.pod_ip,
        "status.podIPs": refs.pod_ip,
        "status.hostIP": refs.node_ip,
        "status.hostIPs": refs.node_ip,
    }
    if path not in plain:
        raise ValueError(f"fieldRef {path!r} is not a field that a container can refer to")
    return plain[path]


def resource_value(pod: PodSpec, default: ContainerSpec | None, ref: Json) -> str:
    """A resourceFieldRef, in units of its divisor, rounded up. A limit not set is the machine's capacity."""
    name = ref.get("containerName")
    container = pod.container(name) if name else default
    if container is None:
        raise ValueError(f"resourceFieldRef names container {name!r}, which the pod does not have")
    kind, _, resource = str(ref["resource"]).partition(".")
    amount = (container.resources.get(kind) or {}).get(resource)
    if amount is None and kind == "requests":
        amount = (container.resources.get("limits") or {}).get(resource)
    value = quantity(str(amount)) if amount is not None else _capacity(resource, kind)
    divisor = quantity(str(ref.get("divisor") or "1")) or 1.0
    return str(math.ceil(value / divisor - 1e-9))


def _capacity(resource: str, kind: str) -> float:
    if kind == "requests":
        return 0.0
    if resource == "cpu":
        return float(os.cpu_count() or 1)
    if resource == "memory":
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return 0.0


def _listing(pairs: Json | None) -> str:
    return "\n".join(f'{key}="{_quoted(str(value))}"' for key, value in sorted((pairs or {}).items()))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(
    pod: PodSpec, container: ContainerSpec, entry: Json, refs: References, so_far: Mapping[str, str]
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(str(entry.get("value") or ""), so_far)
    if ref := source.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], refs)
    if ref := source.get("resourceFieldRef"):
        return resource_value(pod, container, ref)
    if ref := source.get("configMapKeyRef"):
        return _key(text_of_config_map(refs.config_maps.get(ref["name"])), ref, "ConfigMap")
    if ref := source.get("secretKeyRef"):
        return _key(text_of_secret(refs.secrets.get(ref["name"])), ref, "Secret")
    raise ValueError(f"env {entry['name']}: valueFrom has no source this node knows")


def _whole_source(source: Json, refs: References) -> Mapping[str, str]:
    for kind, field, objects in (
        ("ConfigMap", "configMapRef", refs.config_maps),
        ("Secret", "secretRef", refs.secrets),
    ):
        if ref := source.get(field):
            found = objects.get(ref["name"])
            if found is None and not ref.get("optional"):
                raise ReferenceMissing(f"{kind} {ref['name']!r} not found")
            values = text_of_config_map(found) if kind == "ConfigMap" else text_of_secret(found)
            return values or {}
    return {}


def _key(values: Mapping[str, str] | None, ref: Json, kind: str) -> str | None:
    if values is not None and ref["key"] in values:
        return values[ref["key"]]
    if ref.get("optional"):
        return None
    if values is None:
        raise ReferenceMissing(f"{kind} {ref['name']!r} not found")
    raise ReferenceMissing(f"{kind} {ref['name']!r} has no key {ref['key']!r}")


def text_of_config_map(obj: Json | None) -> Mapping[str, str] | None:
    """data of a ConfigMap; None for no ConfigMap."""
    return None if obj is None else {k: str(v) for k, v in (obj.get("data") or {}).items()}


def text_of_secret(obj: Json | None) -> Mapping[str, str] | None:
    """data of a Secret, decoded; None for no Secret."""
    if obj is None:
        return None
    decoded = {
        k: base64.b64decode(v or "").decode(errors="surrogateescape") for k, v in (obj.get("data") or {}).items()
    }
    return {**decoded, **{k: str(v) for k, v in (obj.get("stringData") or {}).items()}}
