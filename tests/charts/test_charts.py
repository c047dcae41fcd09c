"""What the charts render: golden files, the names other programs rely on, and messages for missing values.

Refresh the golden files with `WEFT_REFRESH_GOLDEN=1 pytest tests/charts`, and review the difference as code.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from weft_injector.core.settings import VALUES as VALUES_READ

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


def test_generated_schemas_and_reference_follow_the_values_file() -> None:
    done = subprocess.run(
        [sys.executable, str(CHARTS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_the_injector_reads_can_be_given() -> None:
    schema = json.loads((CHARTS / "weft-proxy" / "values.schema.json").read_text())
    for path, _, _ in VALUES_READ:
        found = schema
        for key in path.split("."):
            found = found["properties"][key]


def test_high_availability_spreads_and_protects_every_replicated_component() -> None:
    everything = objects("weft", "-f", str(CHARTS / "weft" / "values-ha.yaml"))
    deployments = {o["metadata"]["name"]: o["spec"] for o in everything if o["kind"] == "Deployment"}
    tripled = {name for name, spec in deployments.items() if spec["replicas"] == 3}
    assert tripled == {"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"}
    for name in tripled:
        spec = deployments[name]["template"]["spec"]
        anti = spec["affinity"]["podAntiAffinity"]
        (required,) = anti["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["topologyKey"] == "kubernetes.io/hostname"
        labels = deployments[name]["template"]["metadata"]["labels"].items()
        assert required["labelSelector"]["matchLabels"].items() <= labels
        assert spec["priorityClassName"] == "system-cluster-critical"
        assert deployments[name]["strategy"]["rollingUpdate"]["maxUnavailable"] == 1
        assert spec["containers"][0]["resources"]["requests"]["cpu"] == "100m"
    budgets = {o["metadata"]["name"]: o["spec"] for o in everything if o["kind"] == "PodDisruptionBudget"}
    assert budgets.keys() == tripled
    assert all(budget["maxUnavailable"] == 1 for budget in budgets.values())
    (webhook,) = webhooks(everything)
    assert webhook["failurePolicy"] == "Fail"


def test_network_policies_admit_what_a_component_serves_and_its_proxy() -> None:
    policies = {
        o["metadata"]["name"]: o["spec"]
        for o in objects("weft", "--set", "global.networkPolicies.enabled=true")
        if o["kind"] == "NetworkPolicy"
    }
    deployments = {o["metadata"]["name"]: o["spec"]["template"] for o in objects("weft") if o["kind"] == "Deployment"}
    assert policies.keys() == deployments.keys()
    for name, policy in policies.items():
        template = deployments[name]
        assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        everything = [*template["spec"]["containers"], *template["spec"]["initContainers"]]
        declared = {port["containerPort"] for c in everything for port in c.get("ports", [])}
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == declared | {4190}, name
    assert len(policies["weft-redis"]["ingress"][0]["from"]) == 2


def test_pod_monitors_select_the_pods_that_are_rendered() -> None:
    arguments = ("--set", "global.podMonitor.enabled=true", "--set", "global.podMonitor.labels.release=prometheus")
    monitors = {o["metadata"]["name"]: o for o in objects("weft", *arguments) if o["kind"] == "PodMonitor"}
    assert monitors.keys() == {"linkerd-controller", "linkerd-proxy"}
    for monitor in monitors.values():
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        for deployment in (o for o in objects("weft") if o["kind"] == "Deployment"):
            assert wanted <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_pods_are_restricted_but_for_the_firewall_container() -> None:
    for deployment in (o for o in objects("weft") if o["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            if container["name"] == "linkerd-init":
                assert set(context["capabilities"]["add"]) == {"NET_ADMIN", "NET_RAW"}
            else:
                assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]


def test_only_programs_that_ask_the_api_server_have_a_token_for_it() -> None:
    holders = set()
    for deployment in (o for o in objects("weft") if o["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec["initContainers"], *spec["containers"]]:
            if any(mount["name"] == "kube-api-access" for mount in container.get("volumeMounts", [])):
                holders.add(container["name"])
    assert holders == {"identity", "destination", "proxy-injector", "metrics-api"}


def test_helm_makes_a_webhook_certificate_for_the_name_that_is_called() -> None:
    made = objects(
        "weft-injector",
        "--set",
        "global.proxyInjector.crtPEM=,global.proxyInjector.keyPEM=,global.proxyInjector.caBundle=",
    )
    secret = next(o for o in made if o["metadata"]["name"] == "linkerd-proxy-injector-k8s-tls")
    pem = base64.b64decode(secret["data"]["tls.crt"])
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["linkerd-proxy-injector.linkerd.svc"]
    assert secret["metadata"]["annotations"]["weft.dev/made-at"].isdecimal()
    (webhook,) = webhooks(made)
    assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == pem


def test_certificate_of_the_webhook_may_be_left_to_cert_manager() -> None:
    settings = {"externalSecret": "true", "caBundle": "", "injectCaFrom": "linkerd/hook"}
    made = objects("weft-injector", "--set", ",".join(f"global.proxyInjector.{k}={v}" for k, v in settings.items()))
    assert not [o for o in made if o["metadata"]["name"] == "linkerd-proxy-injector-k8s-tls"]
    configuration = next(o for o in made if o["kind"] == "MutatingWebhookConfiguration")
    assert configuration["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": "linkerd/hook"}
    assert "caBundle" not in configuration["webhooks"][0]["clientConfig"]


def test_definitions_outlive_an_uninstall_and_nothing_else_does() -> None:
    for obj in objects("weft"):
        kept = obj["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        assert kept == (obj["kind"] == "CustomResourceDefinition"), obj["metadata"]["name"]


def webhooks(everything: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every MutatingWebhookConfiguration."""
    return [hook for o in everything if o["kind"] == "MutatingWebhookConfiguration" for hook in o["webhooks"]]


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
        ("weft-identity", "global.identity.issuer.scheme=pgp", "must be one of the following"),
        ("weft-injector", "global.proxyInjector.keyPEM=", "go together"),
        ("weft-injector", "global.proxyInjector.injectCaFrom=a/b", "exclude each other"),
        ("weft-injector", "global.proxyInjector.caBundle=,global.proxyInjector.externalSecret=true", "needs"),
        ("weft-web", "global.proxyInit.iptablesMode=pf", "must be one of the following"),
        # Every chart refuses a value it does not know, wherever it stands, and names it.
        ("weft", "global.proxy.loglevel=debug", "Additional property loglevel is not allowed"),
        ("weft", "weft-identiti.x=1", "Additional property weft-identiti is not allowed"),
        ("weft-destination", "controllerReplica=3", "Additional property controllerReplica is not allowed"),
        ("weft-redis", "global.controllerReplicas=three", "global.controllerReplicas: Invalid type"),
        ("weft-web", "controllerReplicas=0", "Must be greater than or equal to 1"),
    ],
)
def test_unusable_values_stop_helm_with_a_sentence(chart: str, setting: str, message: str) -> None:
    done = helm("template", "weft", str(CHARTS / chart), "-f", str(VALUES), "--set", setting)
    assert done.returncode != 0
    assert message in done.stderr
