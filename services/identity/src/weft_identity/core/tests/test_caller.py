"""A token works for the pod it was given to, and for nobody else."""

from __future__ import annotations

import pytest
from weft_common.kube.resource import ObjectKey
from weft_identity.core.caller import Caller, check_caller
from weft_identity.core.proxies import MeshedPod, bare_pod, meshed_pod
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.pods import BarePods, ClusterPods, MeshedPods
from weft_identity.testing.pki import WEB


def known(*pods: tuple[str, str]) -> MeshedPods:
    """Pods by uid and address."""
    found = MeshedPods()
    for uid, address in pods:
        addresses = (address,) if address else ()
        found.apply(ObjectKey("shop", uid), MeshedPod(uid, "shop", uid, addresses, None, None))
    return found


def check(pods: MeshedPods, caller: Caller, uid: str = "web") -> None:
    check_caller(caller, WEB, uid, pods.by_uid, pods.at)


@pytest.mark.parametrize(
    ("pods", "caller"),
    [
        ([("web", "10.0.0.1"), ("thief", "10.0.0.2")], Caller("", "10.0.0.2")),
        ([("web", "10.0.0.1"), ("thief", "10.0.0.2")], Caller(WEB, "10.0.0.2")),
        ([], Caller("thief.shop.serviceaccount.identity.linkerd.cluster.local", "")),
    ],
)
def test_token_sent_from_another_pod_is_refused(pods: list[tuple[str, str]], caller: Caller) -> None:
    with pytest.raises(CertifyRefused, match="stolen") as refused:
        check(known(*pods), caller)
    assert refused.value.reason is RefusalReason.TOKEN_REPLAYED


@pytest.mark.parametrize(
    ("pods", "caller"),
    [
        ([("web", "10.0.0.1")], Caller("", "10.0.0.1")),
        ([("web", "10.0.0.1")], Caller(WEB, "10.0.0.1")),
        # Both on the host's network.
        ([("web", "10.9.9.9"), ("other", "10.9.9.9")], Caller("", "10.9.9.9")),
        # Our view is older than the pod, or than its address.
        ([("other", "10.0.0.1")], Caller("", "10.0.0.1")),
        ([("web", ""), ("other", "10.0.0.1")], Caller("", "10.0.0.1")),
        # An address of nobody: a gateway in between.
        ([("web", "10.0.0.1")], Caller("", "192.0.2.7")),
        # No proxy of ours in front.
        ([("web", "10.0.0.1"), ("other", "10.0.0.2")], Caller()),
    ],
)
def test_token_of_the_pod_itself_and_what_cannot_be_told_are_served(
    pods: list[tuple[str, str]], caller: Caller
) -> None:
    check(known(*pods), caller)


def test_address_is_forgotten_with_its_pod() -> None:
    pods = known(("web", "10.0.0.1"), ("thief", "10.0.0.2"))
    pods.delete(ObjectKey("shop", "thief"))
    assert pods.at("10.0.0.2") == frozenset()
    pods.reset({})
    assert pods.all() == []


def test_a_thief_without_a_proxy_is_seen_too() -> None:
    bare = BarePods()
    raw = {"metadata": {"uid": "legacy"}, "spec": {}, "status": {"phase": "Running", "podIP": "10.0.0.7"}}
    bare.reset({ObjectKey("legacy", "a"): bare_pod(raw)})
    pods = ClusterPods(known(("web", "10.0.0.1")), bare)
    with pytest.raises(CertifyRefused, match="stolen"):
        check_caller(Caller("", "10.0.0.7"), WEB, "web", pods.by_uid, pods.at)
    # Whoever is on its node's network shares the address with gateways of other pods.
    bare.apply(ObjectKey("legacy", "a"), bare_pod({**raw, "spec": {"hostNetwork": True}}))
    check_caller(Caller("", "10.0.0.7"), WEB, "web", pods.by_uid, pods.at)
    assert bare_pod({**raw, "status": {"phase": "Failed", "podIP": "10.0.0.7"}}) is None


def test_pod_is_read_with_its_addresses_and_given_anchors() -> None:
    raw = {
        "metadata": {"uid": "u", "namespace": "shop", "name": "web"},
        "spec": {"initContainers": [{"name": "linkerd-proxy", "env": []}]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "initContainerStatuses": [
                {"name": "linkerd-proxy", "state": {"running": {"startedAt": "2026-05-04T12:00:00Z"}}}
            ],
        },
    }
    pod = meshed_pod(raw)
    assert pod is not None
    assert pod.addresses == ("10.0.0.1", "fd00::1")
    assert pod.given_anchors is None
    assert pod.proxy_started_at is not None
    assert meshed_pod({**raw, "status": {"phase": "Succeeded"}}) is None
    assert meshed_pod({**raw, "spec": {"containers": [{"name": "app"}]}}) is None
