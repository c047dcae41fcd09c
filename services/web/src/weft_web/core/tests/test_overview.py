from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from weft_proto.weft import metrics_pb2
from weft_web.core.drawing import topology_svg
from weft_web.core.format import byte_rate, milliseconds, percent, rate
from weft_web.core.hosts import is_own_host
from weft_web.core.layout import place_nodes
from weft_web.core.model import Health, WorkloadId, overview_from_answers
from weft_web.core.tables import tiles, workload_table


def resource(name: str, namespace: str = "bookshop") -> metrics_pb2.Resource:
    return metrics_pb2.Resource(namespace=namespace, kind="deployment", name=name)


def sample_answers() -> tuple[metrics_pb2.StatSummaryResponse, metrics_pb2.EdgesResponse]:
    stats = metrics_pb2.StatSummaryResponse(
        covered_s=60,
        rows=[
            metrics_pb2.StatRow(
                resource=resource("frontend"),
                meshed_pods=2,
                running_pods=2,
                http=metrics_pb2.HttpStats(
                    success_rate=0.93, rps=20.0, latency_ms_p50=3.5, latency_ms_p95=9, latency_ms_p99=20
                ),
            ),
            metrics_pb2.StatRow(resource=resource("store"), meshed_pods=1, running_pods=1),
        ],
    )
    edges = metrics_pb2.EdgesResponse(
        edges=[
            metrics_pb2.Edge(src=resource("frontend"), dst=resource("store"), secured=True, client_id="frontend.id"),
            metrics_pb2.Edge(
                src=resource("old<script>", "legacy"), dst=resource("frontend"), no_tls_reason="no_tls_from_remote"
            ),
        ]
    )
    return stats, edges


def test_a_client_without_a_row_of_its_own_becomes_an_unmeshed_workload() -> None:
    stats, edges = sample_answers()
    overview = overview_from_answers([stats], [edges])
    assert [(w.id.name, w.is_meshed, w.health) for w in overview.workloads] == [
        ("frontend", True, Health.FAIR),
        ("store", True, Health.QUIET),
        ("old<script>", False, Health.QUIET),
    ]


def test_a_workload_that_only_sends_shows_that_and_is_not_counted_twice() -> None:
    stats, edges = sample_answers()
    sent = metrics_pb2.HttpStats(success_rate=1.0, rps=20.0)
    stats.rows.append(metrics_pb2.StatRow(resource=resource("visitor"), meshed_pods=1, running_pods=1, sent=sent))
    overview = overview_from_answers([stats], [edges])
    assert "sent/s" in topology_svg(overview)
    assert "what it sent" in workload_table(overview)
    assert [tile.number for tile in tiles(overview)][:2] == ["93%", "20.0"]


def test_opaque_bytes_show_their_exchanges() -> None:
    stats, edges = sample_answers()
    stats.rows[1].exchanges.CopyFrom(metrics_pb2.HttpStats(success_rate=0.5, rps=4.0))
    store = next(w for w in overview_from_answers([stats], [edges]).workloads if w.id.name == "store")
    assert (store.health, store.sends_only) == (Health.BAD, False)


def test_a_namespace_keeps_whoever_talks_to_it_from_outside() -> None:
    stats, edges = sample_answers()
    names = [w.id.name for w in overview_from_answers([stats], [edges]).within(["bookshop"]).workloads]
    assert names == ["frontend", "store", "old<script>"]


def test_drawing_shows_padlocks_by_security_and_escapes_names() -> None:
    stats, edges = sample_answers()
    svg = topology_svg(overview_from_answers([stats], [edges]))
    assert re.findall(r'class="lock (\w+)".*?data-secured="(\w+)"', svg) == [("closed", "true"), ("open", "false")]
    assert "not secured: no tls from remote" in svg
    assert "93%" in svg
    assert "P50 3.5 ms  P95 9.0 ms  P99 20 ms" in svg
    assert "<script>" not in svg


IDS = st.builds(WorkloadId, st.sampled_from(["a", "b"]), st.just("deployment"), st.sampled_from("abcdefgh"))


@given(st.lists(IDS, max_size=12), st.lists(st.tuples(IDS, IDS), max_size=30))
def test_every_node_gets_a_place_of_its_own_whatever_the_cycles(
    nodes: list[WorkloadId], links: list[tuple[WorkloadId, WorkloadId]]
) -> None:
    places = place_nodes(nodes, links)
    assert set(places) == set(nodes)
    assert len({(place.column, place.row) for place in places.values()}) == len(places)


def test_callers_stand_left_of_whom_they_call() -> None:
    a, b, c, d = (WorkloadId("n", "deployment", name) for name in "abcd")
    places = place_nodes([a, b, c, d], [(a, b), (b, c), (a, c), (c, a)])
    assert [places[node].column for node in (a, b, c)] == [0, 1, 2]
    assert places[d].row > max(places[node].row for node in (a, b, c))


def test_a_failure_is_never_rounded_away() -> None:
    assert [percent(share) for share in (1.0, 0.99999, 0.9, 0.0, None)] == ["100%", "99.99%", "90%", "0%", "–"]


def test_numbers_read_well_at_every_size() -> None:
    assert [rate(value) for value in (0.04, 9.96, 250.4)] == ["0.0", "10.0", "250"]
    assert [milliseconds(value) for value in (0.4, 12.3, 12_340, None)] == ["0.4 ms", "12 ms", "12.3 s", "–"]
    assert [byte_rate(value) for value in (12, 2048, 5 * 1024**3)] == ["12 B/s", "2.0 KiB/s", "5.0 GiB/s"]


def test_only_own_names_and_addresses_are_answered() -> None:
    own = ["localhost:8084", "127.0.0.1", "[::1]:8084", "web.linkerd-viz.svc.cluster.local:8084", "10.1.2.3:80"]
    assert all(is_own_host(host) for host in own)
    assert not any(
        is_own_host(host) for host in ["evil.example", "localhost.evil.example", "", "127.0.0.1.nip.example"]
    )
    assert is_own_host("mesh.corp.example:443", ["mesh.corp.example"])
