"""Tables and JSON, as printed."""

from __future__ import annotations

import json
from dataclasses import replace

from weft_cli.core.edges_view import EdgeLine, edges_json, edges_table, short_identity
from weft_cli.core.stat_view import Measured, StatLine, StatShape, notes, stat_json, stat_table

CART = StatLine("shop", "deployment", "cart", 2, 2, 1.0, 3.14, 2.4, 9.0, 17.2, 5, 120.0, 3000.25, Measured.SERVED)
STORE = StatLine("shop", "deployment", "store", 1, 1, open_connections=3, read_bytes_per_s=50.0, write_bytes_per_s=0.0)
IDLE = StatLine("shop", "deployment", "idle", 0, 1)
PRICE = StatLine("shop", "service", "price", 0, 0, 0.9714, 9.4, 1.0, 4.0, 10.0)

ID = "{}.serviceaccount.identity.linkerd.cluster.local"
SECURED = EdgeLine(
    "cart",
    "deployment",
    "shop",
    "price",
    "deployment",
    "shop",
    ID.format("cart.shop"),
    ID.format("price.shop"),
    True,
    "",
    2,
)
UNMESHED = EdgeLine(
    "unmeshed",
    "unmeshed",
    "",
    "price",
    "statefulset",
    "shop",
    "",
    ID.format("price.shop"),
    False,
    "no_tls_from_remote",
    1,
)


def test_stat_table_aligns_the_name_to_the_left_and_shows_dashes_for_the_unknown() -> None:
    assert stat_table([CART, STORE, IDLE], StatShape(with_namespace=False)).text() == (
        "NAME    MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN\n"
        "cart       2/2   100.00%   3.1rps           2ms           9ms          17ms          5\n"
        "store      1/1         -        -             -             -             -          3\n"
        "idle       0/1         -        -             -             -             -          -\n"
    )


def test_wide_stat_table_with_namespaces_and_several_types() -> None:
    shape = StatShape(with_namespace=True, wide=True, prefixed=True)
    assert stat_table([CART, PRICE], shape).text() == (
        "NAMESPACE   NAME          MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN"
        "   READ_BYTES/SEC   WRITE_BYTES/SEC\n"
        "shop        deploy/cart      2/2   100.00%   3.1rps           2ms           9ms          17ms          5"
        "         120.0B/s         3000.2B/s\n"
        "shop        svc/price          -    97.14%   9.4rps           1ms           4ms          10ms          -"
        "                -                 -\n"
    )


def test_stat_json_has_null_for_unknown_numbers_and_no_tcp_keys_without_tcp() -> None:
    cart, idle = json.loads(stat_json([CART, IDLE]))
    assert cart == {
        "namespace": "shop",
        "kind": "deployment",
        "name": "cart",
        "meshed": "2/2",
        "success_rate": 1.0,
        "success": 1.0,
        "rps": 3.14,
        "latency_ms_p50": 2.4,
        "latency_ms_p95": 9.0,
        "latency_ms_p99": 17.2,
        "direction": "inbound",
        "tcp_open_connections": 5,
        "tcp_read_bytes_rate": 120.0,
        "tcp_write_bytes_rate": 3000.25,
    }
    assert (idle["success_rate"], idle["rps"], idle["latency_ms_p99"], idle["direction"]) == (None, None, None, None)
    assert "tcp_open_connections" not in idle


def test_workload_that_only_sends_is_marked() -> None:
    line = replace(CART, measured=Measured.SENT)
    assert stat_table([line], StatShape(with_namespace=False)).rows[0][0] == "cart →"
    assert json.loads(stat_json([line]))[0]["direction"] == "outbound"


def test_workload_of_opaque_bytes_is_marked_and_explained() -> None:
    line = replace(CART, measured=Measured.EXCHANGED)
    assert stat_table([line], StatShape(with_namespace=False)).rows[0][0] == "cart ⇄"
    assert notes([line, CART]) == ["⇄ opaque bytes; the numbers are those of bursts and the answers to them"]


def test_edges_table_signs_what_is_secured_and_gives_the_reason_for_what_is_not() -> None:
    assert edges_table([SECURED, UNMESHED], "deployment").text() == (
        "SRC        DST         SRC_NS   DST_NS   SECURED\n"
        "cart       price       shop     shop     √\n"
        "unmeshed   sts/price   -        shop     no_tls_from_remote\n"
    )


def test_wide_edges_table_shortens_identities() -> None:
    assert edges_table([SECURED], "deployment", wide=True).text() == (
        "SRC    DST     SRC_NS   DST_NS   CLIENT_ID   SERVER_ID    SECURED\n"
        "cart   price   shop     shop     cart.shop   price.shop   √\n"
    )
    assert short_identity("") == "-"


def test_edges_json_keeps_full_identities() -> None:
    secured, unmeshed = json.loads(edges_json([SECURED, UNMESHED]))
    assert (secured["src"], secured["dst"], secured["secured"]) == ("cart", "price", True)
    assert secured["client_id"] == ID.format("cart.shop")
    assert (unmeshed["secured"], unmeshed["no_tls_reason"]) == (False, "no_tls_from_remote")


def test_row_without_a_reason_is_never_shown_as_secured() -> None:
    line = EdgeLine("a", "pod", "x", "b", "pod", "x", "", "", False, "", 1)
    assert "unknown" in edges_table([line], "pod").text()
