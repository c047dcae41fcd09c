"""`weft stat` and `weft edges` against a real gRPC server: what is asked, what is printed, which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from weft_proto.weft import metrics_pb2 as pb

from weft_cli.__main__ import main
from weft_cli.tests.metrics_server import Answers, Run, running


@pytest.fixture
def answers() -> Answers:
    found = Answers()
    found.stat["deployment"] = [
        pb.StatRow(
            resource=pb.Resource(namespace="shop", kind="deployment", name="cart"),
            meshed_pods=2,
            running_pods=2,
            http=pb.HttpStats(success_rate=0.9714, rps=9.4, latency_ms_p50=2.4, latency_ms_p95=9, latency_ms_p99=17),
            tcp=pb.TcpStats(open_connections=5),
        ),
        pb.StatRow(
            resource=pb.Resource(namespace="shop", kind="deployment", name="legacy"), meshed_pods=0, running_pods=1
        ),
    ]
    found.stat["service"] = [
        pb.StatRow(
            resource=pb.Resource(namespace="shop", kind="service", name="cart"),
            http=pb.HttpStats(success_rate=1, rps=1),
        )
    ]
    found.edges = [
        pb.Edge(
            src=pb.Resource(namespace="shop", kind="deployment", name="web"),
            dst=pb.Resource(namespace="shop", kind="deployment", name="cart"),
            client_id="web.shop.serviceaccount.identity.linkerd.cluster.local",
            server_id="cart.shop.serviceaccount.identity.linkerd.cluster.local",
            secured=True,
        ),
        pb.Edge(
            src=pb.Resource(kind="unmeshed", name="unmeshed"),
            dst=pb.Resource(namespace="shop", kind="deployment", name="web"),
            no_tls_reason="no_tls_from_remote",
        ),
    ]
    return found


@pytest.fixture
def weft(answers: Answers, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    with running(answers, capsys) as run:
        yield run


def test_stat_prints_the_meshed_rows_as_a_table(weft: Run) -> None:
    assert weft("stat", "deploy", "-n", "shop") == (
        0,
        "NAME   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN\n"
        "cart      2/2    97.14%   9.4rps           2ms           9ms          17ms          5\n",
        "",
    )


def test_unmeshed_rows_are_shown_on_request(weft: Run) -> None:
    _, out, _ = weft("stat", "deploy", "-n", "shop", "--unmeshed", "-o", "json")
    assert [row["meshed"] for row in json.loads(out)] == ["2/2", "0/1"]


def test_several_types_make_several_blocks(weft: Run) -> None:
    _, out, _ = weft("stat", "deploy/cart", "svc/cart", "-n", "shop")
    deployment, service = out.split("\n\n")
    assert "deploy/cart" in deployment
    assert "svc/cart" in service


def test_stat_asks_for_what_was_typed(weft: Run, answers: Answers) -> None:
    weft("stat", "deploy/cart", "-n", "shop", "-t", "5m", "--to", "svc/price", "--to-namespace", "other")
    (request,) = answers.asked
    assert (request.selector.kind, request.selector.namespace, request.selector.name) == ("deployment", "shop", "cart")
    assert request.window_s == 300
    assert (request.to.kind, request.to.namespace, request.to.name) == ("service", "other", "price")


def test_namespace_target_is_asked_without_a_namespace(weft: Run, answers: Answers) -> None:
    weft("stat", "ns", "-n", "shop")
    assert answers.asked[0].selector.namespace == ""


def test_no_rows_are_said_on_stderr_and_are_no_failure(weft: Run) -> None:
    assert weft("stat", "sts", "-n", "shop") == (0, "", "No traffic found.\n")
    assert weft("stat", "sts", "-n", "shop", "-o", "json") == (0, "[]\n", "")


def test_refusal_of_the_service_is_bad_input(weft: Run, answers: Answers) -> None:
    answers.refusal = "window_s: 1 s is less than the scrape interval of 5 s"
    assert weft("stat", "deploy", "-t", "1s") == (2, "", f"error: {answers.refusal}\n")


def test_edges_prints_signs_and_reasons(weft: Run) -> None:
    assert weft("edges", "deploy", "-n", "shop") == (
        0,
        "SRC        DST    SRC_NS   DST_NS   SECURED\n"
        "web        cart   shop     shop     √\n"
        "unmeshed   web    -        shop     no_tls_from_remote\n",
        "",
    )


def test_edges_json_names_both_identities(weft: Run) -> None:
    _, out, _ = weft("edges", "deploy", "-n", "shop", "-o", "json")
    web, unmeshed = json.loads(out)
    assert {key: web[key] for key in ("src", "dst", "secured", "no_tls_reason")} == {
        "src": "web",
        "dst": "cart",
        "secured": True,
        "no_tls_reason": "",
    }
    assert web["server_id"].startswith("cart.shop.")
    assert unmeshed["secured"] is False


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("stat", "deply"), "did you mean deploy"),
        (("stat", "deploy/x", "-A"), "cannot be combined with -A"),
        (("stat", "deploy", "--to", "po/a", "--from", "po/b"), "exclude each other"),
        (("stat", "deploy", "--to", "all"), "one resource"),
        (("stat", "deploy", "-w", "-o", "json"), "--watch"),
        (("stat", "deploy", "-t", "soon"), "expected a duration"),
        (("edges", "deploy/x"), "without a name"),
    ],
)
def test_bad_input_is_explained_with_exit_code_2(weft: Run, words: tuple[str, ...], part: str) -> None:
    code, out, err = weft(*words)
    assert (code, out) == (2, "")
    assert part in err
    assert "Traceback" not in err


def test_unreachable_metrics_api_fails_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stat", "deploy", "--api-addr", "127.0.0.1:1"]) == 1
    err = capsys.readouterr().err
    assert "metrics-api at 127.0.0.1:1 does not answer" in err
    assert "weft check" in err
