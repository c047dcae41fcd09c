"""Does the token come from the pod it was given to? What a thief lacks is the pod's address and the pod's certificate.

The proxy beside identity says who calls: `l5d-client-id` from the caller's certificate, `l5d-remote-ip` from its
connection. Without either (no proxy, Linkerd's proxy) nothing can be said, and the token alone decides, as in Linkerd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from weft_identity.core.proxies import MeshedPod
from weft_identity.core.refusal import CertifyRefused, RefusalReason


@dataclass(frozen=True, slots=True)
class Caller:
    """client_id: verified identity of the connection, empty without one. address: empty when unknown."""

    client_id: str = ""
    address: str = ""


UNKNOWN_CALLER = Caller()


def check_caller(
    caller: Caller,
    identity: str,
    pod_uid: str,
    pod_by_uid: Callable[[str], MeshedPod | None],
    pods_at: Callable[[str], frozenset[str]],
) -> None:
    """Raises CertifyRefused for a token that somebody else sends. pod_uid: of the token, empty when it is not bound.

    An address is held against the caller only when both pods are known, so a pod that is newer than our view is served.
    """
    if caller.client_id and caller.client_id != identity:
        raise CertifyRefused(
            RefusalReason.TOKEN_REPLAYED, f"the token for {identity} was sent by {caller.client_id}; it may be stolen"
        )
    bound = pod_by_uid(pod_uid) if pod_uid and caller.address else None
    if bound is None or not bound.addresses or caller.address in bound.addresses:
        return
    if pods_at(caller.address) - {pod_uid}:
        raise CertifyRefused(
            RefusalReason.TOKEN_REPLAYED,
            f"the token of pod {bound.label} was sent from another pod, at {caller.address}; it may be stolen",
        )
