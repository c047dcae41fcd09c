"""The sidecar that the charts render is the one the injector adds: two templates, one result."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from weft_injector.core.decision import decide
from weft_injector.core.inject import Mesh
from weft_injector.core.manifest import inject_document
from weft_injector.core.pod import pod_from_json
from weft_injector.core.settings import settings_from_values

from .rendering import objects

DEPLOYMENTS = ("linkerd-identity", "linkerd-destination", "linkerd-proxy-injector", "weft-redis", "metrics-api", "web")
# Where the pod of a control-plane component differs on purpose.
LOCAL_ADDRESSES = {"IDENTITY_SVC_ADDR", "DESTINATION_SVC_ADDR", "POLICY_SVC_ADDR"}
ON_PURPOSE = {
    f"LINKERD2_PROXY_{name}"
    for name in (
        *LOCAL_ADDRESSES,
        "INBOUND_PORTS_REQUIRE_TLS",
        "INBOUND_REMOTE_IP_HEADER",
        "IDENTITY_TRUST_ANCHORS",
        "IDENTITY_TRUST_ANCHORS_FILE",
    )
}
# Injected pods live in other namespaces, where the ConfigMap of the trust roots is not.
TRUST_ROOTS = "trust-roots"


def of_kind(kind: str, name: str, *arguments: str) -> dict[str, Any]:
    return next(o for o in objects("weft", *arguments) if o["kind"] == kind and o["metadata"]["name"] == name)


def containers(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    spec = deployment["spec"]["template"]["spec"]
    return {c["name"]: c for c in [*spec.get("initContainers", []), *spec["containers"]]}


def injected_copy(deployment: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """The same Deployment as the injector makes it, from the values the charts publish."""
    config = of_kind("ConfigMap", "linkerd-config", *arguments)
    roots = of_kind("ConfigMap", "linkerd-identity-trust-roots", *arguments)
    settings = settings_from_values(yaml.safe_load(config["data"]["values"]))
    document = copy.deepcopy(deployment)
    proxy = containers(deployment)["linkerd-proxy"]
    classic = proxy not in deployment["spec"]["template"]["spec"].get("initContainers", [])
    flags = {
        "config.linkerd.io/proxy-enable-native-sidecar": "false" if classic else "true",
        "config.linkerd.io/proxy-await": "disabled" if classic else "enabled",
    }
    inject_document(document, flags, Mesh(settings, roots["data"]["ca-bundle.crt"], "linkerd/helm 0.1.0"))
    return document


@pytest.mark.parametrize("name", DEPLOYMENTS)
@pytest.mark.parametrize("arguments", [(), ("--set", "global.disableIPv6=false,global.proxy.accessLog=json")])
def test_charts_and_injector_make_the_same_proxy(name: str, arguments: tuple[str, ...]) -> None:
    deployment = of_kind("Deployment", name, *arguments)
    ours, theirs = (
        containers(deployment)["linkerd-proxy"],
        containers(injected_copy(deployment, *arguments))["linkerd-proxy"],
    )
    env, their_env = ({v["name"]: v for v in c.pop("env")} for c in (copy.deepcopy(ours), copy.deepcopy(theirs)))
    assert {k: v for k, v in env.items() if k not in ON_PURPOSE} == {
        k: v for k, v in their_env.items() if k not in ON_PURPOSE
    }
    for field in ("image", "imagePullPolicy", "ports", "livenessProbe", "startupProbe", "restartPolicy", "lifecycle"):
        assert ours.get(field) == theirs.get(field), field
    assert ours["terminationMessagePolicy"] == theirs["terminationMessagePolicy"]
    # The API server mounts its token into every container that does not object; the charts give it to one.
    injected_mounts = [m for m in theirs["volumeMounts"] if m["name"] != "kube-api-access"]
    assert [mount for mount in ours["volumeMounts"] if mount["name"] != TRUST_ROOTS] == injected_mounts
    assert ours["securityContext"] == theirs["securityContext"]
    assert ours["readinessProbe"] == {**theirs["readinessProbe"], "periodSeconds": 2}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_charts_and_injector_set_up_the_same_firewall(name: str) -> None:
    deployment = of_kind("Deployment", name)
    ours, theirs = containers(deployment)["linkerd-init"], containers(injected_copy(deployment))["linkerd-init"]

    def without_outbound(args: list[str]) -> list[str]:
        at = args.index("--outbound-ports-to-ignore")
        return args[:at] + args[at + 2 :]

    assert without_outbound(ours["args"]) == without_outbound(theirs["args"])
    for field in ("image", "command", "volumeMounts", "terminationMessagePolicy"):
        assert ours[field] == theirs[field], field


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_charts_and_injector_use_the_same_volumes(name: str) -> None:
    def ours(deployment: dict[str, Any]) -> list[dict[str, Any]]:
        return [v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"].startswith("linkerd-")]

    deployment = of_kind("Deployment", name)
    assert ours(deployment) == ours(injected_copy(deployment))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pods_that_carry_their_proxy_are_not_injected_again(name: str) -> None:
    template = of_kind("Deployment", name)["spec"]["template"]
    assert not decide(pod_from_json(template), {"linkerd.io/inject": "enabled"}).injectable


def test_control_plane_reaches_its_own_service_over_localhost() -> None:
    def address(deployment: str, service: str) -> str:
        env = containers(of_kind("Deployment", deployment))["linkerd-proxy"]["env"]
        return next(v["value"] for v in env if v["name"] == f"LINKERD2_PROXY_{service}_SVC_ADDR")

    assert address("linkerd-identity", "IDENTITY") == "localhost.:8080"
    assert address("linkerd-destination", "DESTINATION") == "localhost.:8086"
    assert address("linkerd-destination", "POLICY") == "localhost.:8090"
    assert address("linkerd-identity", "POLICY") == "linkerd-policy.linkerd.svc.cluster.local.:8090"
