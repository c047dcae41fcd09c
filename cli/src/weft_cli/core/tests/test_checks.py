"""`weft check` over facts: what passes, what warns, what fails, what is worth waiting for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from weft_cli.core.check_control_plane import CONTROL_PLANE, report, unreachable_report
from weft_cli.core.check_destination import ReplicaState, replica_state
from weft_cli.core.check_facts import ClusterFacts, MetricsApiFacts, PodFacts, WebhookFacts
from weft_cli.core.check_model import Check, Report, Result
from weft_cli.core.tests.certificates import NOW, issue

ANCHOR = issue("root.linkerd.cluster.local", days=3650)
ISSUER = issue("identity.linkerd.cluster.local", ANCHOR)
WEBHOOK_NAME = "linkerd-proxy-injector.linkerd.svc"
WEBHOOK = issue("webhook", dns=WEBHOOK_NAME)
VERSION = "0.1.0"


def pod(name: str, namespace: str = "linkerd", **changes: object) -> PodFacts:
    ready = {"linkerd-proxy": True, "app": True}
    return replace(PodFacts(namespace, f"{name}-1", "Running", name, ready, proxy_version=VERSION), **changes)  # type: ignore[arg-type]


HEALTHY = ClusterFacts(
    server="https://cluster",
    server_version="v1.36.0",
    namespace_exists=True,
    config_exists=True,
    control_plane_version=VERSION,
    service_accounts=frozenset(CONTROL_PLANE),
    pods=(
        *(pod(name) for name in CONTROL_PLANE),
        pod("weft-redis"),
        pod("metrics-api", "linkerd-viz"),
        pod("web", "linkerd-viz"),
        pod("cart", "shop"),
    ),
    trust_anchors_pem=ANCHOR.pem,
    issuer_pem=ISSUER.pem,
    issuer_key_pem=ISSUER.key_pem,
    webhook=WebhookFacts(WEBHOOK.pem, WEBHOOK.pem, WEBHOOK_NAME),
    destination=(ReplicaState("linkerd-destination-1"),),
    metrics_api=MetricsApiFacts((("proxies are scraped", False, False, ""),)),
)


def look(**changes: object) -> Report:
    return report(replace(HEALTHY, **changes), NOW, VERSION, with_data_plane=True)  # type: ignore[arg-type]


def the_only_trouble(found: Report) -> Check:
    (check,) = (check for check in found.checks if check.result is not Result.SUCCESS)
    return check


def with_pod(name: str, **changes: object) -> tuple[PodFacts, ...]:
    return tuple(replace(p, **changes) if p.owner == name else p for p in HEALTHY.pods)  # type: ignore[arg-type]


def test_healthy_mesh_passes_every_check() -> None:
    found = look()
    assert [check.description for check in found.checks if check.result is not Result.SUCCESS] == []
    assert found.success
    assert [category.name for category in found.categories] == [
        "kubernetes-api",
        "kubernetes-version",
        "linkerd-existence",
        "linkerd-config",
        "linkerd-identity",
        "linkerd-webhooks-and-apisvc-tls",
        "linkerd-identity-data-plane",
        "control-plane-version",
        "linkerd-control-plane-proxy",
        "weft-destination",
        "weft-redis",
        "linkerd-viz",
        "linkerd-data-plane",
    ]


def test_missing_control_plane_is_said_once_and_is_not_waited_for() -> None:
    found = look(namespace_exists=False, config_exists=False, pods=())
    assert the_only_trouble(found).description == "'linkerd' namespace exists"
    assert not found.success
    assert found.waiting_for == []


def test_starting_control_plane_is_worth_waiting_for_and_says_why() -> None:
    pods = with_pod("linkerd-identity", ready={"identity": False}, waiting={"identity": "CrashLoopBackOff"})
    found = look(pods=pods)
    assert the_only_trouble(found).error == "linkerd-identity-1: identity CrashLoopBackOff"
    assert [check.description for check in found.waiting_for] == ["control plane pods are ready"]


def test_deployment_without_pods_is_named() -> None:
    found = look(pods=tuple(p for p in HEALTHY.pods if p.owner != "linkerd-proxy-injector"))
    assert the_only_trouble(found).error == "linkerd-proxy-injector has no pods"


def test_lost_redis_warns_and_does_not_fail() -> None:
    found = look(pods=with_pod("weft-redis", ready={"redis": False}))
    assert the_only_trouble(found).result is Result.WARNING
    assert found.success


METRICS = """\
# HELP weft_destination_stale 1 while a kind cannot be followed
# TYPE weft_destination_stale gauge
weft_destination_stale{resource="services"} 1.0
weft_destination_stale{resource="pods"} 0.0
weft_destination_streams{call="Get"} 12.0
weft_destination_snapshot_age_seconds 3723.4
weft_redis_up 0.0
"""


def test_what_a_replica_exports_is_read() -> None:
    state = replica_state("linkerd-destination-1", METRICS)
    assert state == ReplicaState("linkerd-destination-1", ("services",), 3723.4, has_redis=False)
    assert replica_state("older", "") == ReplicaState("older")


def test_stale_endpoints_warn_with_their_age_and_do_not_fail() -> None:
    found = look(destination=(replica_state("linkerd-destination-1", METRICS),))
    warned = [check for check in found.checks if check.result is Result.WARNING]
    assert [check.error for check in warned] == [
        "linkerd-destination-1 serves the last it knew of services",
        "linkerd-destination-1 serves a snapshot from Redis that is 1:02:03 old",
        "linkerd-destination-1 has no Redis",
    ]
    assert found.success


def test_replicas_that_cannot_be_asked_from_here_are_not_reported() -> None:
    assert all(category.checks == () for category in look(destination=()).categories if "destination" in category.name)


def test_metrics_api_that_cannot_be_reached_warns() -> None:
    found = look(metrics_api=MetricsApiFacts(unreachable="no route"))
    assert the_only_trouble(found).error == "no route"
    assert found.success


def test_metrics_api_that_is_unwell_fails_with_its_own_words() -> None:
    found = look(metrics_api=MetricsApiFacts((("proxies are scraped", True, False, "the last round was 60 s ago"),)))
    assert the_only_trouble(found).error == "the last round was 60 s ago"
    assert not found.success


@pytest.mark.parametrize(
    ("changes", "description", "result"),
    [
        ({"issuer_pem": None}, "certificate config is valid", Result.ERROR),
        ({"issuer_pem": "rubbish"}, "certificate config is valid", Result.ERROR),
        ({"issuer_key_pem": ANCHOR.key_pem}, "certificate config is valid", Result.ERROR),
        ({"issuer_key_pem": None}, "certificate config is valid", Result.ERROR),
        ({"trust_anchors_pem": None}, "certificate config is valid", Result.ERROR),
        (
            {"trust_anchors_pem": issue("other", days=3650).pem},
            "issuer cert is issued by the trust anchor",
            Result.ERROR,
        ),
    ],
)
def test_broken_certificate_config_is_found(changes: dict[str, object], description: str, result: Result) -> None:
    found = look(**changes)
    assert (the_only_trouble(found).description, the_only_trouble(found).result) == (description, result)


@pytest.mark.parametrize(
    ("days", "description", "result"),
    [
        (-0.1, "issuer cert is within its validity period", Result.ERROR),
        (59.9, "issuer cert is valid for at least 60 days", Result.WARNING),
    ],
)
def test_issuer_that_ends_too_soon_is_found(days: float, description: str, result: Result) -> None:
    issuer = issue("issuer", ANCHOR, days=days)
    found = look(issuer_pem=issuer.pem, issuer_key_pem=issuer.key_pem)
    assert (the_only_trouble(found).description, the_only_trouble(found).result) == (description, result)


def test_certificate_that_is_not_valid_yet_is_found() -> None:
    issuer = issue("issuer", ANCHOR, starts=NOW + timedelta(hours=1))
    found = look(issuer_pem=issuer.pem, issuer_key_pem=issuer.key_pem)
    assert "not valid before 2026-06-01T01:00:00Z" in the_only_trouble(found).error


def test_issuer_with_another_curve_is_refused() -> None:
    issuer = issue("issuer", ANCHOR, curve=ec.SECP384R1())
    found = look(issuer_pem=issuer.pem, issuer_key_pem=issuer.key_pem)
    assert the_only_trouble(found).error == "CN=issuer uses ECDSA secp384r1"


def test_issuer_reaches_the_anchor_through_an_intermediate() -> None:
    middle = issue("middle", ANCHOR)
    issuer = issue("issuer", middle)
    assert look(issuer_pem=issuer.pem + middle.pem, issuer_key_pem=issuer.key_pem).success


@pytest.mark.parametrize(
    ("webhook", "part"),
    [
        (WebhookFacts(WEBHOOK.pem, ANCHOR.pem, WEBHOOK_NAME), "signed by none"),
        (WebhookFacts(WEBHOOK.pem, WEBHOOK.pem, "other.linkerd.svc"), "not for other"),
        (WebhookFacts(WEBHOOK.pem, None, WEBHOOK_NAME), "caBundle"),
    ],
)
def test_webhook_certificate_the_api_server_will_refuse_is_found(webhook: WebhookFacts, part: str) -> None:
    assert part in the_only_trouble(look(webhook=webhook)).error


def test_proxy_with_another_trust_bundle_is_named() -> None:
    found = look(pods=with_pod("cart", trust_anchors=issue("old").pem))
    assert the_only_trouble(found).error == "another bundle in shop/cart-1"
    assert look(pods=with_pod("cart", trust_anchors=f"\n{ANCHOR.pem}")).success


def test_unready_proxy_of_a_workload_fails_only_with_the_data_plane() -> None:
    pods = with_pod("cart", ready={"linkerd-proxy": False})
    assert the_only_trouble(look(pods=pods)).error == "shop/cart-1: not ready"
    assert report(replace(HEALTHY, pods=pods), NOW, VERSION).success


def test_old_kubernetes_and_other_versions_are_said() -> None:
    found = look(server_version="v1.30.2", control_plane_version="0.0.9")
    assert [check.error for check in found.checks if check.error] == [
        "the server runs v1.30.2",
        "control plane 0.0.9, this command 0.1.0",
    ]


def test_text_has_headings_signs_reasons_and_what_to_do() -> None:
    text = unreachable_report("connection refused").text()
    assert text == (
        "kubernetes-api\n--------------\n√ can initialize the client\n× can query the Kubernetes API\n"
        "    connection refused\n"
        "    is the cluster running? For a local one: weft local status; else check --kubeconfig and --context\n"
        "\nStatus check results are ×\n"
    )


def test_short_text_leaves_out_what_passed() -> None:
    assert look().text(short=True) == "Status check results are √\n"
    assert "can initialize" not in unreachable_report("x").text(short=True)


def test_json_has_the_names_other_tools_read() -> None:
    found = json.loads(unreachable_report("refused").json())
    assert found["success"] is False
    (category,) = found["categories"]
    assert category["categoryName"] == "kubernetes-api"
    assert category["checks"][0] == {
        "description": "can initialize the client",
        "hint": "",
        "error": "",
        "result": "success",
    }
    assert category["checks"][1]["result"] == "error"


def test_proxy_that_reports_is_believed_over_what_its_pod_was_made_with() -> None:
    ids = frozenset({ANCHOR.certificate.fingerprint(SHA256()).hex()})
    found = look(pods=with_pod("cart", trust_anchors=issue("old root").pem), reported_trust={("shop", "cart-1"): ids})
    assert all(check.result is Result.SUCCESS for check in found.checks)


def test_certificate_that_was_not_renewed_in_time_is_a_warning() -> None:
    assert the_only_trouble(look(overdue=("shop/cart-1",))).error == "overdue: shop/cart-1"


@pytest.mark.parametrize("kind", ["anchor", "issuer"])
def test_expired_certificate_is_explained_once_with_the_command_that_recovers(kind: str) -> None:
    anchor = issue("root", days=-0.5) if kind == "anchor" else ANCHOR
    issuer = issue("issuer", anchor, days=-0.5 if kind == "issuer" else 365)
    found = look(trust_anchors_pem=anchor.pem, issuer_pem=issuer.pem, issuer_key_pem=issuer.key_pem)
    assert "expired on" in the_only_trouble(found).error
    assert f"weft identity rotate {kind}" in the_only_trouble(found).hint


@pytest.mark.parametrize(("days", "within"), [(59, "60 days"), (29, "30 days"), (6, "7 days")])
def test_warning_grows_as_the_end_comes_nearer(days: int, within: str) -> None:
    issuer = issue("issuer", ANCHOR, days=days)
    found = look(issuer_pem=issuer.pem, issuer_key_pem=issuer.key_pem)
    assert the_only_trouble(found).error.endswith(f"in less than {within}")
