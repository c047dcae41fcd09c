"""What the charts render: golden files, the names other programs rely on, and messages for missing values.

Refresh the golden files with `WEFT_REFRESH_GOLDEN=1 pytest tests/charts`, and review the difference as code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from .rendering import CHARTS, COMPONENTS, VALUES, helm, identity_of, objects, rendered

GOLDEN = Path(__file__).with_name("golden")

NAMES = {
    ("Deployment", "linkerd", "linkerd-identity"),
    ("Deployment", "linkerd", "linkerd-destination"),
    ("Deployment", "linkerd", "linkerd-proxy-injector"),
    ("Deployment", "linkerd", "weft-redis"),
    ("Deployment", "linkerd-viz", "metrics-api"),
    ("Deployment", "linkerd-viz", "web"),
    ("ServiceAccount", "linkerd", "linkerd-identity"),
    ("ServiceAccount", "linkerd", "linkerd-destination"),
    ("ServiceAccount", "linkerd", "linkerd-proxy-injector"),
    ("ServiceAccount", "linkerd", "weft-redis"),
    ("ServiceAccount", "linkerd-viz", "metrics-api"),
    ("ServiceAccount", "linkerd-viz", "web"),
    ("Secret", "linkerd", "linkerd-identity-issuer"),
    ("Secret", "linkerd", "linkerd-proxy-injector-k8s-tls"),
    ("Secret", "linkerd", "linkerd-policy-validator-k8s-tls"),
    ("Secret", "linkerd", "linkerd-sp-validator-k8s-tls"),
    ("ConfigMap", "linkerd", "linkerd-identity-trust-roots"),
    ("ConfigMap", "linkerd", "linkerd-config"),
    ("MutatingWebhookConfiguration", "", "linkerd-proxy-injector-webhook-config"),
    ("ValidatingWebhookConfiguration", "", "linkerd-policy-validator-webhook-config"),
    ("ValidatingWebhookConfiguration", "", "linkerd-sp-validator-webhook-config"),
    ("Namespace", "", "linkerd"),
    ("Namespace", "", "linkerd-viz"),
}
# Service: its port, the port of the pod (a number or a port's name), headless.
SERVICES = {
    "linkerd-identity": (8080, 8080, False),
    "linkerd-identity-headless": (8080, 8080, True),
    "linkerd-dst": (8086, 8086, False),
    "linkerd-dst-headless": (8086, 8086, True),
    "linkerd-policy": (8090, 8090, True),
    "linkerd-proxy-injector": (443, "proxy-injector", False),
    "linkerd-policy-validator": (443, "policy-https", False),
    "linkerd-sp-validator": (443, "sp-validator", False),
    "weft-redis": (6379, "redis", False),
    "metrics-api": (8085, 8085, False),
    "web": (8084, 8084, False),
}


@pytest.mark.parametrize("chart", COMPONENTS)
def test_rendering_is_the_reviewed_one(chart: str) -> None:
    path = GOLDEN / f"{chart}.yaml"
    if os.environ.get("WEFT_REFRESH_GOLDEN"):
        path.write_text(rendered(chart))
    assert rendered(chart) == path.read_text()


@pytest.mark.parametrize("chart", [*COMPONENTS, "weft"])
def test_helm_finds_nothing_to_complain_about(chart: str) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHARTS / chart), "-f", str(VALUES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_umbrella_installs_exactly_what_the_components_do() -> None:
    alone = {identity_of(obj): obj for chart in COMPONENTS for obj in objects(chart)}
    assert {identity_of(obj): obj for obj in objects("weft")} == alone


def test_names_are_those_other_programs_look_for() -> None:
    assert {identity_of(obj) for obj in objects("weft")} >= NAMES


def test_services_have_the_ports_of_the_contract() -> None:
    services = {obj["metadata"]["name"]: obj["spec"] for obj in objects("weft") if obj["kind"] == "Service"}
    found = {
        name: (spec["ports"][0]["port"], spec["ports"][0]["targetPort"], spec.get("clusterIP") == "None")
        for name, spec in services.items()
    }
    assert found == SERVICES


def test_every_service_selects_exactly_one_deployment() -> None:
    everything = objects("weft")
    pods = [(obj["metadata"], obj["spec"]["template"]) for obj in everything if obj["kind"] == "Deployment"]
    for service in (obj for obj in everything if obj["kind"] == "Service"):
        wanted = service["spec"]["selector"].items()
        chosen = [
            metadata["name"]
            for metadata, template in pods
            if metadata["namespace"] == service["metadata"]["namespace"]
            and wanted <= template["metadata"]["labels"].items()
        ]
        assert len(chosen) == 1, service["metadata"]["name"]


def test_the_world_readable_configuration_holds_no_private_key() -> None:
    config = next(obj for obj in objects("weft") if obj["metadata"]["name"] == "linkerd-config")
    assert "private key" not in config["data"]["values"]
    assert yaml.safe_load(config["data"]["values"])["clusterDomain"] == "cluster.local"


def test_namespace_that_helm_installs_into_is_left_to_helm() -> None:
    names = {identity_of(obj) for obj in objects("weft", "--namespace", "linkerd")}
    assert ("Namespace", "", "linkerd") not in names
    assert ("Namespace", "", "linkerd-viz") in names


def test_parts_can_be_left_out() -> None:
    smaller = {
        identity_of(obj)[2] for obj in objects("weft", "--set", "global.redis.enabled=false,global.viz.enabled=false")
    }
    assert not smaller & {"weft-redis", "web", "metrics-api", "linkerd-viz"}


def test_settings_may_stand_at_the_top_level_of_a_single_chart() -> None:
    deployment = next(
        o for o in objects("weft-identity", "--set", "controllerLogLevel=debug") if o["kind"] == "Deployment"
    )
    env = {v["name"]: v["value"] for v in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["WEFT_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("chart", "setting", "message"),
    [
        ("weft-identity", "global.identityTrustAnchorsPEM=", "identityTrustAnchorsPEM is empty"),
        ("weft-identity", "global.identity.issuer.tls.keyPEM=", "identity.issuer.tls.keyPEM is empty"),
        ("weft-identity", "global.identity.issuer.scheme=pgp", "use linkerd.io/tls or kubernetes.io/tls"),
        ("weft-injector", "global.proxyInjector.keyPEM=", "go together"),
        ("weft-web", "global.proxyInit.iptablesMode=pf", "use nft or legacy"),
    ],
)
def test_unusable_values_stop_helm_with_a_sentence(chart: str, setting: str, message: str) -> None:
    done = helm("template", "weft", str(CHARTS / chart), "-f", str(VALUES), "--set", setting)
    assert done.returncode != 0
    assert message in done.stderr
