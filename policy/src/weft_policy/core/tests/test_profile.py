"""Service profiles: whose profile a client gets, and what of it reaches the proxy."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, ServiceTarget
from weft_policy.core.objects import Name
from weft_policy.core.profile import ServiceProfileAnswer, profile_of
from weft_policy.kube.kinds import apply_object, index_from_objects
from weft_policy.kube.parse_profiles import parse_service_profile, quantity
from weft_policy.wire.encode_destination import profile_message
from weft_proto.linkerd import destination_pb2 as pb

WEB = ServiceTarget(Name("shop", "web"), 80)
SERVICE: dict[str, Any] = {
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
}


def raw_profile(namespace: str, spec: str) -> dict[str, Any]:
    metadata = {"name": "web.shop.svc.cluster.local", "namespace": namespace}
    return {
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": metadata,
        "spec": yaml.safe_load(spec),
    }


FULL = """
routes:
- name: GET /books
  condition: {method: GET, pathRegex: /books/\\d+}
  isRetryable: true
  timeout: 300ms
  responseClasses:
  - {condition: {status: {min: 500, max: 599}}, isFailure: true}
  - {condition: {not: {status: {min: 404}}}, isFailure: false}
retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 1m}
dstOverrides: [{authority: web-v2.shop.svc.cluster.local, weight: 500m}, {authority: "x.y:81", weight: 1}]
"""


def answer(index: ClusterIndex, namespace: str, target: ServiceTarget | AddressTarget = WEB) -> ServiceProfileAnswer:
    found = profile_of(index, Mesh(), target, "", namespace)
    assert isinstance(found, ServiceProfileAnswer)
    return found


def test_the_clients_namespace_beats_the_services() -> None:
    index = index_from_objects([SERVICE, raw_profile("shop", "routes: []")])
    assert answer(index, "client").profile is not None
    apply_object(index, raw_profile("client", FULL))
    own = answer(index, "client").profile
    assert own is not None
    assert own.name.namespace == "client"
    by_address = answer(index, "client", AddressTarget("10.0.0.1", 80)).profile
    assert by_address == own
    other = answer(index, "elsewhere").profile
    assert other is not None
    assert other.name.namespace == "shop"


def test_everything_of_a_profile_reaches_the_proxy() -> None:
    message = profile_message(answer(index_from_objects([SERVICE, raw_profile("shop", FULL)]), "shop"))
    assert message.fully_qualified_name == "web.shop.svc.cluster.local"
    assert message.profile_ref.resource.kind == "ServiceProfile"
    (route,) = message.routes
    assert dict(route.metrics_labels) == {"route": "GET /books"}
    assert (route.is_retryable, route.timeout.nanos) == (True, 300_000_000)
    path, method = route.condition.all.matches
    assert path.path.regex == "/books/\\d+"
    assert method.method.registered == 0
    first, second = route.response_classes
    assert (first.condition.status.min, first.condition.status.max, first.is_failure) == (500, 599, True)
    assert getattr(second.condition, "not").status.max == 404
    assert (message.retry_budget.min_retries_per_second, message.retry_budget.ttl.seconds) == (3, 60)
    assert [(override.authority, override.weight) for override in message.dst_overrides] == [
        ("web-v2.shop.svc.cluster.local:80", 5_000),
        ("x.y:81", 10_000),
    ]


def test_without_profile_there_is_the_default_budget() -> None:
    message = profile_message(answer(index_from_objects([SERVICE]), "shop"))
    assert message.retry_budget == pb.RetryBudget(
        retry_ratio=message.retry_budget.retry_ratio,
        min_retries_per_second=10,
        ttl=message.retry_budget.ttl,
    )
    assert not message.routes


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("500m", 0.5), ("2k", 2000), ("1e2", 100), ("0.25", 0.25)])
def test_quantities(text: str, value: float) -> None:
    assert float(quantity(text)) == value


@pytest.mark.parametrize("spec", ["routes: [{name: x, condition: {}}]", "dstOverrides: [{authority: a, weight: lots}]"])
def test_a_profile_that_cannot_be_read_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"condition|quantity"):
        parse_service_profile(raw_profile("shop", spec))


def test_changes_reach_the_service_and_its_address() -> None:
    index = index_from_objects([SERVICE])
    index.take_changes()
    apply_object(index, raw_profile("client", FULL))
    assert {topic.key for topic in index.take_changes()} == {("shop", "web"), ("10.0.0.1", "")}
