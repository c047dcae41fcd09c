"""The metrics of every proxy of the bookshop, held against the contract."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Mesh
from .metrics_contract import BY_DIRECTION, FAMILIES, OWN_PREFIX, TRANSPORT, family_of

pytestmark = pytest.mark.e2e

# What the bookshop's traffic gives no reason for: policies that are not there, errors that do not happen.
ABSENT = {
    *(name for name in FAMILIES if "_grpc_" in name or "_retry_" in name),
    *(name for name in FAMILIES if name.startswith(("outbound_tls_", "route_"))),
    *(name for name in FAMILIES if name.endswith(("_errors", "_authz_deny"))),
    "inbound_http_local_ratelimit",
    "inbound_http_route_not_found",
    "inbound_tcp_authz_terminate",
    "outbound_tcp_route_close",
    *(name for name in FAMILIES if name.startswith("opentelemetry_")),
}


def families(mesh: Mesh) -> Iterator[tuple[str, Metric]]:
    """(pod, family) of every meshed pod."""
    for pod in mesh.kubectl_json("get", "pods", "-A")["items"]:
        if any(one["name"] == "linkerd-proxy" for one in pod["spec"].get("initContainers", [])):
            with urllib.request.urlopen(f"http://{pod['status']['podIP']}:4191/metrics", timeout=10) as answer:
                text = answer.read().decode()
            assert text.endswith("# EOF\n")
            for family in text_string_to_metric_families(text):
                yield pod["metadata"]["name"], family


def test_every_series_has_the_name_type_labels_and_buckets_of_the_contract(mesh: Mesh) -> None:
    wrong: set[str] = set()
    seen: set[str] = set()
    for _, family in families(mesh):
        name = family.name
        if name.startswith(OWN_PREFIX):
            continue
        seen.add(name)
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            expected = family_of(name, labels)
            if expected is None:
                wrong.add(f"{sample.name}: not in the contract")
                continue
            if expected.type != family.type:
                wrong.add(f"{name}: {family.type}, not {expected.type}")
            if not expected.admits(frozenset(labels)):
                wrong.add(f"{sample.name}: {sorted(labels)}")
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                if bound not in (*expected.buckets, math.inf):
                    wrong.add(f"{name}: bucket {bound:g}")
    assert not wrong, "\n".join(sorted(wrong))
    assert {*BY_DIRECTION, *TRANSPORT, *FAMILIES} - ABSENT <= seen
