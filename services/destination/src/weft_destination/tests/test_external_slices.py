"""Slices of external workloads, written against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from weft_common.kube.resource import ENDPOINT_SLICES
from weft_destination.kube.external_slices import MANAGED_BY, WRITER, selecting_from_raw, slice_body, writes
from weft_destination.testing.raw import Raw, raw_endpoint, raw_pod, raw_service, raw_slice
from weft_destination.testing.served import Cluster, served
from weft_destination.tests.test_get import Stream, addresses
from weft_policy.core.external_slices import external_slices
from weft_policy.kube.parse import EXTERNAL_WORKLOADS, parse_external_workload


def raw_workload(name: str, ip: str, *, ready: bool = True) -> Raw:
    return {
        "apiVersion": EXTERNAL_WORKLOADS.api_version,
        "kind": EXTERNAL_WORKLOADS.kind,
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web", "topology.kubernetes.io/zone": "a"}},
        "spec": {
            "meshTLS": {"identity": "spiffe://example.org/web", "serverName": "web.example.org"},
            "ports": [{"port": 8080, "name": "http"}],
            "workloadIPs": [{"ip": ip}],
        },
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": str(ready),
                    "reason": "Probed",
                    "message": "",
                    "lastTransitionTime": "2026-01-02T03:04:05Z",
                }
            ]
        },
    }


async def slices_once(cluster: Cluster, holds: Callable[[list[Raw]], bool]) -> list[Raw]:
    """Our slices, once they are as expected."""
    async with asyncio.timeout(20):
        while True:
            selector = {"labelSelector": f"{MANAGED_BY}={WRITER}"}
            found: list[Raw] = (await cluster.kube.list(ENDPOINT_SLICES.path("shop"), selector))["items"]
            if holds(found):
                return found
            await asyncio.sleep(0.05)


async def test_a_service_reaches_the_workloads_it_selects_beside_its_pods(cluster: Cluster) -> None:
    await cluster.install_policy_kinds()
    # Where the lease is.
    await cluster.kube.create("/api/v1/namespaces", {"metadata": {"name": "linkerd"}})
    await cluster.put(raw_service("web"))
    await cluster.put(raw_pod("web-0", "10.1.0.1"))
    await cluster.put(raw_slice("web-1", "web", [raw_endpoint("web-0", "10.1.0.1")]))
    await cluster.put(raw_workload("vm", "192.0.2.1"))
    async with served(cluster.kube) as stubs:
        (piece,) = await slices_once(cluster, lambda found: len(found) == 1)
        assert piece["metadata"]["name"].startswith("linkerd-external-web-")
        assert piece["metadata"]["ownerReferences"][0]["name"] == "web"
        endpoint = piece["endpoints"][0]
        assert (endpoint["targetRef"]["kind"], endpoint["zone"]) == ("ExternalWorkload", "a")
        stream = Stream(stubs)
        told: set[tuple[str, int]] = set()
        while len(told) < 2:
            told |= set(addresses(a.addr for a in (await stream.next()).add.addrs))
        assert told == {("10.1.0.1", 8080), ("192.0.2.1", 8080)}

        await cluster.put(raw_workload("vm", "192.0.2.1", ready=False))
        (changed,) = await slices_once(cluster, lambda found: not found[0]["endpoints"][0]["conditions"]["ready"])
        assert changed["metadata"]["uid"] == piece["metadata"]["uid"], "replaced where a change would have done"
        assert addresses((await stream.next()).remove.addrs) == [("192.0.2.1", 8080)]

        await cluster.kube.delete(EXTERNAL_WORKLOADS.path("shop", "vm"))
        assert await slices_once(cluster, lambda found: not found) == []
        pods = await cluster.kube.get(ENDPOINT_SLICES.path("shop", "web-1"))
        assert pods["endpoints"][0]["addresses"] == ["10.1.0.1"]


def bodies(*workloads: Raw, **spec: Any) -> list[Raw]:
    service = selecting_from_raw(raw_service("web", **spec))
    assert service is not None
    return [slice_body(service, piece) for piece in external_slices(service, map(parse_external_workload, workloads))]


def there(body: Raw, name: str) -> Raw:
    return {**body, "metadata": {**body["metadata"], "name": name, "resourceVersion": "7"}}


def test_slices_that_are_as_they_should_be_are_left_alone() -> None:
    (body,) = bodies(raw_workload("vm", "192.0.2.1"))
    assert list(writes([body], [there(body, "a")])) == []


def test_a_slice_is_changed_in_the_version_that_was_read() -> None:
    (old,), (new,) = bodies(raw_workload("vm", "192.0.2.1")), bodies(raw_workload("vm", "192.0.2.9"))
    (write,) = writes([new], [there(old, "a")])
    assert (write.method, write.path.rpartition("/")[2]) == ("PUT", "a")
    assert write.body is not None
    assert write.body["metadata"]["resourceVersion"] == "7"


def test_a_slice_of_another_family_is_replaced() -> None:
    (old,) = bodies(raw_workload("vm", "192.0.2.1"))
    (new,) = bodies(raw_workload("vm", "2001:db8::1"), ipFamilies=["IPv6"])
    assert [write.method for write in writes([new], [there(old, "a")])] == ["POST", "DELETE"]


def test_services_without_selector_or_of_the_system_are_left_to_others() -> None:
    assert selecting_from_raw(raw_service("web", selector={})) is None
    assert selecting_from_raw(raw_service("dns", "kube-system")) is None
    assert selecting_from_raw(raw_service("far", type="ExternalName", externalName="example.com")) is None
