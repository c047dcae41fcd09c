"""What an upgrade keeps, what a prune finds, in which order things go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from weft_cli.core.check_pre import CLUSTER_WIDE, NAMESPACED, PreFacts, pre_report
from weft_cli.core.installation import (
    Installed,
    in_deletion_order,
    is_worn_out,
    left_over,
    reference,
    upgrade_values,
)
from weft_cli.core.tests.certificates import issue


def obj(kind: str, name: str, namespace: str = "", api: str = "v1") -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace, "uid": "u"}}


def test_upgrade_keeps_settings_and_certificates() -> None:
    overrides = {"controllerReplicas": 3, "identity": {"issuer": {"scheme": "linkerd.io/tls"}}}
    values = upgrade_values(Installed(overrides, "anchors", ("crt", "key"), {"proxyInjector": ("wc", "wk", "ca")}))[
        "global"
    ]
    assert values["controllerReplicas"] == 3
    assert values["identityTrustAnchorsPEM"] == "anchors"
    assert values["identity"]["issuer"] == {"scheme": "linkerd.io/tls", "tls": {"crtPEM": "crt", "keyPEM": "key"}}
    assert values["proxyInjector"] == {"crtPEM": "wc", "keyPEM": "wk", "caBundle": "ca"}
    assert overrides["identity"] == {"issuer": {"scheme": "linkerd.io/tls"}}


def test_upgrade_leaves_out_what_someone_else_makes() -> None:
    assert upgrade_values(Installed({"controllerReplicas": 3}, None, None, {})) == {"global": {"controllerReplicas": 3}}


def test_only_a_certificate_that_helm_made_wears_out() -> None:
    now = datetime.now(UTC)
    authority = issue("ca", days=400)
    own, signed = issue("hook", dns="hook", days=30), issue("hook", authority, dns="hook", days=30)
    assert is_worn_out(own.pem, now)
    assert not is_worn_out(signed.pem, now)
    assert not is_worn_out(issue("hook", dns="hook", days=300).pem, now)


def test_object_of_another_version_of_its_group_is_not_left_over() -> None:
    present = [obj("PodDisruptionBudget", "a", "linkerd", "policy/v1"), obj("Service", "old", "linkerd")]
    rendered = [obj("PodDisruptionBudget", "a", "linkerd", "policy/v1beta1")]
    assert [o["metadata"]["name"] for o in left_over(present, rendered)] == ["old"]


def test_webhooks_go_first_and_namespaces_and_definitions_last() -> None:
    given = [
        obj("CustomResourceDefinition", "c"),
        obj("Namespace", "linkerd"),
        obj("Deployment", "d", "linkerd"),
        obj("MutatingWebhookConfiguration", "m"),
    ]
    kinds = [o["kind"] for o in in_deletion_order(given)]
    assert kinds == ["MutatingWebhookConfiguration", "Deployment", "Namespace", "CustomResourceDefinition"]


def test_reference_is_no_more_than_a_name() -> None:
    assert reference(obj("Namespace", "n")) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}


def test_cluster_fit_for_an_installation_passes() -> None:
    report = pre_report(PreFacts("v1.36.0", False, -12.0, frozenset()), "linkerd")
    assert report.success
    assert "√ can read Secrets" in report.text()


def test_each_obstacle_to_an_installation_is_named() -> None:
    denied = frozenset({CLUSTER_WIDE[1], NAMESPACED[0]})
    text = pre_report(PreFacts("v1.30.4", True, 4000.0, denied), "linkerd").text()
    for line in (
        "the server runs v1.30.4",
        "there is a namespace linkerd",
        "not allowed to create ClusterRoles",
        "× can create ServiceAccounts",
        "‼ no clock skew detected",
    ):
        assert line in text, line
