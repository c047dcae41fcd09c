"""Rows from expositions: who is counted, for what, and over which time."""

from __future__ import annotations

import pytest

from weft_metrics_api.core.pods import Directory, Phase, Pod, PodKey
from weft_metrics_api.core.resources import ResourceId
from weft_metrics_api.core.stat import BadQuery, Selector, StatQuery, StatRow, stat_rows
from weft_metrics_api.core.tests.proxies import connections, directory, exchanges, inbound, outbound, pod
from weft_metrics_api.core.window import Window

CART = pod("cart-0", "10.0.0.1", deployment="cart")
PRICE = pod("price-0", "10.0.0.2", deployment="price")
PRICE_2 = pod("price-1", "10.0.0.3", deployment="price")


def window_of(*rounds: dict[Pod, str]) -> Window:
    """Rounds ten seconds apart."""
    window = Window(600)
    for number, texts in enumerate(rounds):
        at = 100.0 + 10 * number
        for item, text in texts.items():
            window.ingest(item, at, text)
        window.end_round(at)
    return window


def rows(found: Directory, window: Window, kind: str = "deployment", **query: object) -> dict[str, StatRow]:
    result, _ = stat_rows(found, window, StatQuery(Selector(kind), 60, **query))  # type: ignore[arg-type]
    return {row.resource.name: row for row in result}


def test_requests_of_all_pods_count_for_their_deployment() -> None:
    window = window_of(
        {PRICE: inbound(), PRICE_2: inbound()},
        {PRICE: inbound(ok=60, failed=20, fast=40), PRICE_2: inbound(ok=20, fast=10)},
    )
    row = rows(directory(PRICE, PRICE_2), window)["price"]
    assert (row.meshed_pods, row.running_pods) == (2, 2)
    assert row.http is not None
    assert (row.http.success_count, row.http.failure_count) == (80, 20)
    assert row.http.success_rate == pytest.approx(0.8)
    assert row.http.rps == pytest.approx(10.0)
    # Half lie between 5 and 10 ms, half between 10 and 100.
    assert row.http.p50_ms == pytest.approx(10.0)
    assert row.http.p95_ms == pytest.approx(91.0)


def test_pods_without_requests_have_a_row_without_numbers() -> None:
    row = rows(directory(CART), window_of({CART: ""}, {CART: ""}))["cart"]
    assert (row.meshed_pods, row.http, row.tcp) == (1, None, None)


def test_known_workload_without_pods_has_a_row() -> None:
    found = directory()
    found.known["deployment"] = {PodKey("shop", "idle")}
    assert rows(found, window_of())["idle"].running_pods == 0


def test_scrapes_and_probes_do_not_count_as_traffic() -> None:
    window = window_of(
        {PRICE: inbound(port=4191) + inbound(route="probe")},
        {PRICE: inbound(ok=10, port=4191) + inbound(ok=10, route="probe")},
    )
    assert rows(directory(PRICE), window)["price"].http is None


def test_failed_and_leaving_pods_are_told_apart() -> None:
    failed = Pod(PodKey("shop", "price-2"), "u", "", Phase.FAILED, PRICE.owner, None, "", is_meshed=True)
    done = Pod(PodKey("shop", "price-3"), "v", "", Phase.OTHER, PRICE.owner, None, "", is_meshed=True)
    row = rows(directory(PRICE, failed, done), window_of())["price"]
    assert (row.meshed_pods, row.running_pods, row.failed_pods) == (1, 1, 1)


def test_traffic_of_a_pod_that_has_gone_still_counts_for_its_workload() -> None:
    window = window_of({PRICE: inbound()}, {PRICE: inbound(ok=10)}, {PRICE_2: inbound()})
    found = directory(PRICE_2)
    assert (http := rows(found, window)["price"].http) is not None
    assert http.success_count == 10


def test_tcp_only_workload_has_bytes_and_connections() -> None:
    labels = 'tls="true",client_id="orders"'
    window = window_of(
        {PRICE: connections("inbound", "src", 2, labels, port=6379)},
        {PRICE: connections("inbound", "src", 3, labels, port=6379, read=500) + connections("inbound", "dst", 3, "")},
    )
    row = rows(directory(PRICE), window)["price"]
    assert row.http is None
    assert row.tcp is not None
    assert (row.tcp.open_connections, row.tcp.read_bytes_per_s) == (3, 50.0)


def test_opaque_bytes_have_the_numbers_of_their_exchanges() -> None:
    window = window_of({PRICE: exchanges()}, {PRICE: exchanges(answered=95, unanswered=5)})
    row = rows(directory(PRICE), window)["price"]
    assert row.http is None
    assert row.exchanges is not None
    assert row.exchanges.success_rate == pytest.approx(0.95)
    assert row.exchanges.rps == pytest.approx(10.0)
    assert row.exchanges.p50_ms is not None
    assert row.exchanges.p50_ms < 5


def test_to_counts_only_what_the_client_sent_there() -> None:
    window = window_of(
        {CART: outbound() + outbound(to="other", to_pod="other-0", ip="10.0.0.9")},
        {CART: outbound(ok=30) + outbound(ok=99, to="other", to_pod="other-0", ip="10.0.0.9")},
    )
    found = rows(directory(CART, PRICE), window, to=Selector("deployment", "shop", "price"))
    assert list(found) == ["cart"]
    assert (http := found["cart"].http) is not None
    assert http.success_count == 30


def test_from_counts_per_destination() -> None:
    window = window_of(
        {CART: outbound(), PRICE_2: outbound()},
        {CART: outbound(ok=30), PRICE_2: outbound(ok=7)},
    )
    found = rows(directory(CART, PRICE, PRICE_2), window, from_=Selector("deployment", "shop", "cart"))
    assert {name: row.http.success_count for name, row in found.items() if row.http} == {"price": 30}


def test_requests_a_workload_sent_are_kept_apart_from_those_it_served() -> None:
    window = window_of({CART: outbound()}, {CART: outbound(ok=30)})
    row = rows(directory(CART, PRICE), window)["cart"]
    assert row.http is None
    assert row.sent is not None
    assert (row.sent.success_count, row.sent.rps) == (30, 3.0)


def test_service_rows_come_from_its_clients() -> None:
    window = window_of({CART: outbound()}, {CART: outbound(ok=30)})
    found = rows(directory(CART, PRICE), window, "service")
    assert found == {}
    known = directory(CART, PRICE)
    known.known["service"] = {PodKey("shop", "price")}
    assert (http := rows(known, window, "service")["price"].http) is not None
    assert http.rps == 3.0


def test_pod_and_namespace_rows_name_their_own_kind() -> None:
    window = window_of({PRICE: inbound()}, {PRICE: inbound(ok=5)})
    assert list(rows(directory(PRICE), window, "pod")) == ["price-0"]
    (row,) = rows(directory(PRICE), window, "namespace").values()
    assert row.resource == ResourceId("", "namespace", "shop")


def test_young_store_reports_what_it_covers() -> None:
    window = window_of({PRICE: inbound()}, {PRICE: inbound(ok=5)})
    _, covered_s = stat_rows(directory(PRICE), window, StatQuery(Selector("deployment"), 600))
    assert covered_s == 10


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (StatQuery(Selector("gateway"), 60), "selector"),
        (StatQuery(Selector("pod"), 60, to=Selector("pod"), from_=Selector("pod")), "exclude"),
        (StatQuery(Selector("pod"), 60, from_=Selector("service")), "from"),
        (StatQuery(Selector("service"), 60, to=Selector("pod")), "to"),
    ],
)
def test_impossible_questions_are_refused_with_the_part_that_is_wrong(query: StatQuery, part: str) -> None:
    with pytest.raises(BadQuery, match=part):
        stat_rows(directory(), window_of(), query)
