"""Edges: both ends, identities, and never secured without a reason to say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weft_metrics_api.core.edges import Edge, edges
from weft_metrics_api.core.pods import Directory, Pod
from weft_metrics_api.core.resources import UNMESHED_CLIENT, ResourceId
from weft_metrics_api.core.stat import BadQuery, Selector
from weft_metrics_api.core.tests.proxies import ID, connections, directory, inbound, outbound, pod
from weft_metrics_api.core.tests.test_stat import window_of
from weft_metrics_api.core.window import Window

CART = pod("cart-0", "10.0.0.1", deployment="cart")
PRICE = pod("price-0", "10.0.0.2", deployment="price")
LEGACY = pod("legacy-0", "10.0.0.7", deployment="legacy", meshed=False, namespace="old")
TO_PRICE = f'tls="true",server_id="{ID.format("price")}",dst_namespace="shop",dst_pod="price-0",dst_deployment="price"'
NOT_TLS = 'tls="no_identity",no_tls_reason="{}"'


def found(cluster: Directory, window: Window, kind: str = "deployment", namespace: str = "") -> list[Edge]:
    return edges(cluster, window, Selector(kind, namespace), 60)


def twice(pod_: Pod, text: str) -> Window:
    return window_of({pod_: text}, {pod_: text})


def test_meshed_edge_has_both_identities_and_is_secured() -> None:
    (edge,) = found(directory(CART, PRICE), twice(CART, connections("outbound", "dst", 2, TO_PRICE)))
    assert edge.src == ResourceId("shop", "deployment", "cart")
    assert edge.dst == ResourceId("shop", "deployment", "price")
    assert (edge.client_id, edge.server_id) == (ID.format("cart"), ID.format("price"))
    assert (edge.secured, edge.no_tls_reason) == (True, "")
    assert edge.tcp is not None
    assert edge.tcp.open_connections == 2


def test_edge_carries_the_requests_the_client_saw() -> None:
    (edge,) = found(directory(CART, PRICE), window_of({CART: outbound()}, {CART: outbound(ok=20)}))
    assert edge.http is not None
    assert edge.http.rps == 2.0


@pytest.mark.parametrize("reason", ["not_provided_by_service_discovery", "ingress_without_override", "made_up"])
def test_any_reason_known_or_not_keeps_an_edge_from_being_secured(reason: str) -> None:
    labels = f'{NOT_TLS.format(reason)},dst_namespace="shop",dst_pod="price-0"'
    (edge,) = found(directory(CART, PRICE), twice(CART, connections("outbound", "dst", 1, labels)))
    assert (edge.secured, edge.no_tls_reason) == (False, reason)


def test_missing_reason_keeps_an_edge_from_being_secured() -> None:
    labels = 'tls="no_identity",dst_namespace="shop",dst_pod="price-0"'
    (edge,) = found(directory(CART, PRICE), twice(CART, connections("outbound", "dst", 1, labels)))
    assert (edge.secured, edge.no_tls_reason) == (False, "unknown")


def test_one_plaintext_connection_makes_the_whole_edge_unsecured() -> None:
    text = connections("outbound", "dst", 1, TO_PRICE) + connections(
        "outbound", "dst", 1, f'{NOT_TLS.format("disabled")},dst_namespace="shop",dst_pod="price-0"', port=9090
    )
    (edge,) = found(directory(CART, PRICE), twice(CART, text))
    assert not edge.secured


def test_closed_plaintext_connections_of_the_past_do_not_count() -> None:
    old = connections("outbound", "dst", 0, f'{NOT_TLS.format("disabled")},dst_namespace="shop",dst_pod="price-0"')
    (edge,) = found(directory(CART, PRICE), twice(CART, old + connections("outbound", "dst", 1, TO_PRICE, port=81)))
    assert edge.secured


def test_unmeshed_client_is_seen_from_the_server() -> None:
    tls = NOT_TLS.format("no_tls_from_remote")
    window = window_of({PRICE: inbound(tls=tls)}, {PRICE: inbound(ok=20, tls=tls)})
    (edge,) = found(directory(PRICE, LEGACY), window)
    assert edge.src == UNMESHED_CLIENT
    assert (edge.client_id, edge.server_id) == ("", ID.format("price"))
    assert (edge.secured, edge.no_tls_reason) == (False, "no_tls_from_remote")
    assert edge.http is not None
    assert edge.http.rps == 2.0


def test_unmeshed_client_is_named_when_the_proxy_says_its_address() -> None:
    tls = NOT_TLS.format("no_tls_from_remote") + ',client_ip="10.0.0.7"'
    (edge,) = found(directory(PRICE, LEGACY), twice(PRICE, connections("inbound", "src", 1, tls)))
    assert edge.src == ResourceId("old", "deployment", "legacy")
    tls = NOT_TLS.format("no_tls_from_remote") + ',client_ip="192.0.2.1"'
    (edge,) = found(directory(PRICE, LEGACY), twice(PRICE, connections("inbound", "src", 1, tls)))
    assert edge.src == ResourceId("", "unmeshed", "192.0.2.1")


def test_unmeshed_clients_of_wefts_proxies_are_named() -> None:
    plain = NOT_TLS.format("no_tls_from_remote")
    one = 'weft_inbound_unmeshed_total{{direction="inbound",client_ip="{}",target_ip="10.0.0.2",{}}} {}\n'
    before = inbound(tls=plain) + one.format("10.0.0.7", plain, 0)
    window = window_of({PRICE: before}, {PRICE: inbound(ok=10, tls=plain) + one.format("10.0.0.7", plain, 10)})
    (edge,) = found(directory(PRICE, LEGACY), window)
    assert (edge.src, edge.secured) == (ResourceId("old", "deployment", "legacy"), False)
    assert edge.http is not None
    assert edge.http.success_count == 10

    after = inbound(ok=10, tls=plain) + one.format("10.0.0.7", plain, 5) + one.format("192.0.2.1", plain, 5)
    several = found(
        directory(PRICE, LEGACY), window_of({PRICE: before + one.format("192.0.2.1", plain, 0)}, {PRICE: after})
    )
    assert [(edge.src.name, edge.http) for edge in several] == [("192.0.2.1", None), ("legacy", None)]


def test_the_node_makes_no_edge() -> None:
    """Whatever a kubelet asks before the policy has told the proxy which requests are probes."""
    server = replace(PRICE, host_ip="10.0.0.254")
    plain = NOT_TLS.format("no_tls_from_remote")
    asked = f'weft_inbound_unmeshed_total{{direction="inbound",client_ip="10.0.0.254",target_ip="10.0.0.2",{plain}}} '
    before, after = inbound(tls=plain) + asked + "0\n", inbound(ok=9, tls=plain) + asked + "9\n"
    assert found(directory(server), window_of({server: before}, {server: after})) == []


def test_probes_make_no_edge() -> None:
    tls = NOT_TLS.format("no_tls_from_remote")
    window = window_of(
        {PRICE: inbound(tls=tls, route="probe")},
        {PRICE: inbound(ok=5, tls=tls, route="probe") + connections("inbound", "src", 1, tls)},
    )
    assert found(directory(PRICE), window) == []


def test_scrapes_of_proxies_make_no_edge() -> None:
    window = twice(CART, connections("outbound", "dst", 1, TO_PRICE, port=4191))
    assert found(directory(CART, PRICE), window) == []


def test_edge_is_kept_when_either_end_is_in_the_namespace() -> None:
    window = twice(CART, connections("outbound", "dst", 1, TO_PRICE))
    cluster = directory(CART, PRICE)
    assert len(found(cluster, window, namespace="shop")) == 1
    assert found(cluster, window, namespace="elsewhere") == []


def test_far_end_of_another_kind_is_shown_as_what_it_is() -> None:
    store = "dst_statefulset"
    labels = f'tls="true",server_id="x",dst_namespace="shop",dst_pod="store-0",{store}="store"'
    window = twice(CART, connections("outbound", "dst", 1, labels))
    (edge,) = found(directory(CART), window)
    assert edge.dst == ResourceId("shop", "statefulset", "store")
    assert found(directory(CART), window, "statefulset") == [edge]
    assert found(directory(CART), window, "daemonset") == []


def test_destination_without_labels_is_found_by_its_address() -> None:
    window = twice(CART, connections("outbound", "dst", 1, NOT_TLS.format("not_provided_by_service_discovery")))
    (edge,) = found(directory(CART, PRICE), window)
    assert edge.dst.name == "price"


def test_destination_outside_the_cluster_makes_no_edge() -> None:
    window = twice(CART, connections("outbound", "dst", 1, NOT_TLS.format("not_provided_by_service_discovery")))
    assert found(directory(CART), window) == []


def test_kind_without_edges_is_refused() -> None:
    with pytest.raises(BadQuery, match="service"):
        found(directory(), window_of(), "service")
