"""Whose proxies are asked, why not, and what each may show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weft_metrics_api.core.pods import Pod
from weft_metrics_api.core.stat import BadQuery, Selector
from weft_metrics_api.core.tap import NothingToTap, destination_labels, end_at, share_of, tappable_pods
from weft_metrics_api.core.tests.proxies import directory, pod


def open_pod(name: str, ip: str = "10.0.0.1", deployment: str = "cart") -> Pod:
    return replace(pod(name, ip, deployment=deployment), tap_port=4190)


def test_a_workload_is_its_pods_and_a_namespace_is_all_of_them() -> None:
    known = directory(open_pod("cart-b"), open_pod("cart-a"), open_pod("price-a", deployment="price"))

    def names(selector: Selector) -> list[str]:
        return [found.key.name for found in tappable_pods(known, selector)]

    assert names(Selector("deployment", "shop", "cart")) == ["cart-a", "cart-b"]
    assert names(Selector("pod", "shop", "cart-b")) == ["cart-b"]
    assert names(Selector("namespace", "", "shop")) == ["cart-a", "cart-b", "price-a"]


def test_pods_that_cannot_be_asked_are_named_with_the_reason() -> None:
    known = directory(pod("cart-old", "10.0.0.1", deployment="cart"), pod("cart-bare", deployment="cart", meshed=False))
    with pytest.raises(NothingToTap, match=r"not in the mesh: cart-bare; tap is off .*: cart-old"):
        tappable_pods(known, Selector("deployment", "shop", "cart"))
    with pytest.raises(NothingToTap, match="deployment/gone in namespace shop has no running pod"):
        tappable_pods(known, Selector("deployment", "shop", "gone"))


@pytest.mark.parametrize("selector", [Selector("service", "shop", "cart"), Selector("deployment")])
def test_what_has_no_pods_of_its_own_is_a_bad_query(selector: Selector) -> None:
    with pytest.raises(BadQuery):
        tappable_pods(directory(), selector)


def test_a_rate_is_shared_but_each_pod_shows_something() -> None:
    assert [share_of(100, pods) for pods in (1, 3, 1000)] == [100, 33, 1]
    assert share_of(0, 4) == 25


def test_destinations_are_found_by_their_discovery_labels() -> None:
    assert destination_labels(Selector("service", "shop", "cart")) == [("namespace", "shop"), ("service", "cart")]
    assert destination_labels(Selector("job", "shop", "once")) == [("namespace", "shop"), ("k8s_job", "once")]
    assert destination_labels(Selector("namespace", "", "shop")) == [("namespace", "shop")]
    with pytest.raises(BadQuery, match="to: one resource"):
        destination_labels(Selector("deployment", "shop"))


def test_an_address_tells_pod_and_workload() -> None:
    known = directory(open_pod("cart-a", "10.0.0.9"))
    end = end_at(known, known.by_ip(), "10.0.0.9")
    assert end is not None
    assert (end.pod.name, end.workload) == ("cart-a", ("shop", "deployment", "cart"))
    assert end_at(known, known.by_ip(), "10.0.0.8") is None
