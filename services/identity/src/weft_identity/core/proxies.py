"""The mesh's pods as the certificate authority sees them: who they are, where, and what they were given to trust.

Pure: objects of the API in, values out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

PROXY_CONTAINER: Final = "linkerd-proxy"
ANCHORS_VARIABLE: Final = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
_FINISHED: Final = ("Succeeded", "Failed")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MeshedPod:
    """One pod with a proxy that is not finished.

    given_anchors: ids in the bundle of its specification; None when it reads the ConfigMap as its container starts.
    proxy_started_at: None while the proxy does not run.
    """

    uid: str
    namespace: str
    name: str
    addresses: tuple[str, ...]
    given_anchors: frozenset[str] | None
    proxy_started_at: datetime | None

    @property
    def label(self) -> str:
        """As people write it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class BarePod:
    """One pod without a proxy of ours that is not finished."""

    uid: str
    addresses: tuple[str, ...]


@lru_cache(maxsize=64)
def anchor_ids(bundle_pem: str) -> frozenset[str]:
    """SHA-256 of each certificate in a PEM bundle; what is no certificate is left out."""
    return frozenset(hashlib.sha256(der).hexdigest() for der in _ders(bundle_pem))


def _ders(bundle_pem: str) -> list[bytes]:
    found = []
    for body in _PEM.findall(bundle_pem):
        try:
            found.append(base64.b64decode("".join(body.split()), validate=True))
        except binascii.Error:
            continue
    return found


def meshed_pod(raw: Mapping[str, Any]) -> MeshedPod | None:
    """None for pods without a proxy and for finished ones."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    proxy = next((c for c in containers if c["name"] == PROXY_CONTAINER), None)
    if proxy is None or status.get("phase") in _FINISHED:
        return None
    anchors = next((v.get("value") for v in proxy.get("env") or [] if v["name"] == ANCHORS_VARIABLE), None)
    return MeshedPod(
        uid=metadata["uid"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        addresses=_addresses(status),
        given_anchors=None if anchors is None else anchor_ids(anchors),
        proxy_started_at=_proxy_started_at(status),
    )


def bare_pod(raw: Mapping[str, Any]) -> BarePod | None:
    """None for finished pods, and for those on their node's network: connections of other pods may come from there."""
    status = raw.get("status") or {}
    if status.get("phase") in _FINISHED or (raw.get("spec") or {}).get("hostNetwork"):
        return None
    return BarePod(raw["metadata"]["uid"], _addresses(status))


def _addresses(status: Mapping[str, Any]) -> tuple[str, ...]:
    several = tuple(entry["ip"] for entry in status.get("podIPs") or [])
    return several or tuple(filter(None, [status.get("podIP")]))


def _proxy_started_at(status: Mapping[str, Any]) -> datetime | None:
    for section in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(section) or []:
            running = (item.get("state") or {}).get("running")
            if item["name"] == PROXY_CONTAINER and running and running.get("startedAt"):
                return datetime.fromisoformat(running["startedAt"])
    return None
