"""What a pod's worker needs from the rest of the node: references, tokens, status writing, events."""

from __future__ import annotations

from typing import Any, Protocol

from weft_local.node.core.environment import References
from weft_local.node.core.spec import PodSpec
from weft_local.node.core.volumes import TokenRequest


class Cluster(Protocol):
    """The API server as one pod's worker sees it."""

    def references(self, pod: PodSpec, pod_ip: str) -> References:
        """The ConfigMaps and Secrets of the pod's namespace, as last seen."""

    async def token(self, pod: PodSpec, request: TokenRequest) -> bytes:
        """A fresh bound service-account token. Raises KubeError."""

    async def write_status(self, pod: PodSpec, status: dict[str, Any]) -> bool:
        """False when the API server could not take it now; the worker offers the next one later."""

    async def delete_finally(self, pod: PodSpec) -> None:
        """The pod's processes are gone; take the object away."""

    def event(self, pod: PodSpec, kind: str, reason: str, message: str, container: str = "") -> None:
        """kind: Normal or Warning. Never blocks; dropped when too many wait."""
