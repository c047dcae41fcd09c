"""What files a volume shows: ConfigMap, Secret, downward API, projected. Bytes and modes, no file is touched here."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from weft_local.node.core.environment import ReferenceMissing, References, field_value, resource_value
from weft_local.node.core.spec import Json, PodSpec

DEFAULT_MODE: Final = 0o644
DEFAULT_TOKEN_TTL_S: Final = 3600
# A token is renewed when this share of its life has passed.
TOKEN_RENEW_AT: Final = 0.8


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    mode: int = DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A serviceAccountToken source. audience: empty stands for the API server's own."""

    path: str
    audience: str
    ttl_s: int
    mode: int


FILE_KINDS: Final = ("configMap", "secret", "downwardAPI", "projected")


def holds_files(volume: Json) -> bool:
    """Whether this node writes the volume's content."""
    return any(kind in volume for kind in FILE_KINDS)


def referenced_objects(pod: PodSpec) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the ConfigMaps and of the Secrets that volumes and environments of a pod mention."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for volume in pod.volumes.values():
        for kind, source in _sources(volume):
            if kind == "configMap":
                maps.add(source["name"])
            elif kind == "secret":
                secrets.add(source.get("secretName") or source["name"])
    for container in pod.containers:
        for entry in container.env:
            value_from = entry.get("valueFrom") or {}
            if ref := value_from.get("configMapKeyRef"):
                maps.add(ref["name"])
            if ref := value_from.get("secretKeyRef"):
                secrets.add(ref["name"])
        for source in container.env_from:
            if ref := source.get("configMapRef"):
                maps.add(ref["name"])
            if ref := source.get("secretRef"):
                secrets.add(ref["name"])
    return frozenset(maps), frozenset(secrets)


def token_requests(volume: Json) -> list[TokenRequest]:
    """Tokens that a volume wants."""
    return [
        TokenRequest(
            path=source["path"],
            audience=source.get("audience") or "",
            ttl_s=int(source.get("expirationSeconds") or DEFAULT_TOKEN_TTL_S),
            mode=int((volume.get("projected") or {}).get("defaultMode") or DEFAULT_MODE),
        )
        for kind, source in _sources(volume)
        if kind == "serviceAccountToken"
    ]


def files_of(pod: PodSpec, volume: Json, refs: References, tokens: Mapping[str, bytes]) -> dict[str, File]:
    """Every file of a volume, keyed by path below it; tokens: by path. Raises ReferenceMissing, ValueError."""
    files: dict[str, File] = {}
    for kind, source in _sources(volume):
        mode = int(source.get("defaultMode") or (volume.get("projected") or {}).get("defaultMode") or DEFAULT_MODE)
        if kind == "configMap":
            files |= _from_object(source, _config_map_bytes(refs.config_maps.get(source["name"])), mode, "ConfigMap")
        elif kind == "secret":
            name = source.get("secretName") or source["name"]
            files |= _from_object({**source, "name": name}, _secret_bytes(refs.secrets.get(name)), mode, "Secret")
        elif kind == "downwardAPI":
            for item in source.get("items") or ():
                ref = item.get("resourceFieldRef")
                text = resource_value(pod, None, ref) if ref else field_value(pod, item["fieldRef"]["fieldPath"], refs)
                files[_safe(item["path"])] = File(text.encode(), int(item.get("mode") or mode))
        elif kind == "serviceAccountToken":
            files[_safe(source["path"])] = File(tokens[source["path"]], mode)
        else:
            raise ValueError(f"volume {volume['name']}: projected source {kind!r} is not supported")
    return files


def _sources(volume: Json) -> Iterator[tuple[str, Json]]:
    for kind in ("configMap", "secret", "downwardAPI"):
        if kind in volume:
            yield kind, volume[kind] or {}
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from source.items()


def _from_object(source: Json, data: Mapping[str, bytes] | None, mode: int, kind: str) -> dict[str, File]:
    optional = bool(source.get("optional"))
    if data is None:
        if optional:
            return {}
        raise ReferenceMissing(f"{kind} {source['name']!r} not found")
    items = source.get("items")
    if not items:
        return {_safe(key): File(content, mode) for key, content in data.items()}
    files: dict[str, File] = {}
    for item in items:
        if item["key"] in data:
            files[_safe(item["path"])] = File(data[item["key"]], int(item.get("mode") or mode))
        elif not optional:
            raise ReferenceMissing(f"{kind} {source['name']!r} has no key {item['key']!r}")
    return files


def _safe(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"volume path {path!r} must stay inside the volume")
    return path


def _config_map_bytes(obj: Json | None) -> Mapping[str, bytes] | None:
    if obj is None:
        return None
    binary = {k: base64.b64decode(v) for k, v in (obj.get("binaryData") or {}).items()}
    return {**{k: str(v).encode() for k, v in (obj.get("data") or {}).items()}, **binary}


def _secret_bytes(obj: Json | None) -> Mapping[str, bytes] | None:
    if obj is None:
        return None
    return {k: base64.b64decode(v or "") for k, v in (obj.get("data") or {}).items()}
