"""Whole pods through the core: what is added, where, and that nothing of the user's changes."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft_injector.core.decision import SkipReason
from weft_injector.core.inject import Mesh, Outcome, annotate_service, inject_pod
from weft_injector.core.owner import Owner
from weft_injector.core.patch import Add
from weft_injector.core.pod import pod_from_json
from weft_injector.core.settings import BadSetting, BadValues, MeshSettings

ANCHORS = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
ENABLED = {"linkerd.io/inject": "enabled"}
OWNER = Owner("deployment", "web")


def a_pod(**changes: Any) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "metadata": {"generateName": "web-", "labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "web", "image": "shop/web", "ports": [{"containerPort": 8080, "name": "http"}]}]
        },
    }
    pod["metadata"] |= changes.pop("metadata", {})
    pod["spec"] |= changes
    return pod


def injected(
    pod: dict[str, Any], namespace: dict[str, str] = ENABLED, settings: MeshSettings | None = None
) -> tuple[dict[str, Any], Outcome]:
    outcome = inject_pod(
        Mesh(settings or MeshSettings(), ANCHORS, "linkerd/proxy-injector 0.1.0"),
        pod_from_json(pod),
        "shop",
        namespace,
        OWNER,
    )
    return applied(pod, outcome.ops), outcome


def applied(document: dict[str, Any], ops: tuple[Add, ...]) -> dict[str, Any]:
    """RFC 6902 for `add`, which is all we emit."""
    result = copy.deepcopy(document)
    for op in ops:
        *parents, last = [t.replace("~1", "/").replace("~0", "~") for t in op.path.split("/")[1:]]
        target: Any = result
        for token in parents:
            target = target[token]
        if isinstance(target, list):
            assert last == "-" or 0 <= int(last) <= len(target)
            target.insert(len(target) if last == "-" else int(last), copy.deepcopy(op.value))
        else:
            target[last] = copy.deepcopy(op.value)
    return result


def proxy_of(pod: dict[str, Any]) -> dict[str, Any]:
    everything = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    return next(c for c in everything if c["name"] == "linkerd-proxy")


def env_of(pod: dict[str, Any]) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in proxy_of(pod)["env"]}


def init_args(pod: dict[str, Any]) -> list[str]:
    return next(list(c["args"]) for c in pod["spec"]["initContainers"] if c["name"] == "linkerd-init")


def test_pod_in_an_enabled_namespace_gets_a_native_sidecar_before_its_own_init_containers() -> None:
    pod, outcome = injected(a_pod(initContainers=[{"name": "migrate", "image": "shop/migrate"}]))
    assert outcome.injected
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["linkerd-init", "linkerd-proxy", "migrate"]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["web"]
    proxy = proxy_of(pod)
    assert proxy["restartPolicy"] == "Always"
    assert proxy["startupProbe"] == {
        "httpGet": {"path": "/ready", "port": 4191},
        "initialDelaySeconds": 0,
        "periodSeconds": 1,
        "failureThreshold": 120,
    }
    assert "lifecycle" not in proxy


def test_classic_sidecar_comes_first_and_holds_the_application_back() -> None:
    pod, _ = injected(
        a_pod(
            metadata={
                "annotations": {
                    "config.linkerd.io/proxy-enable-native-sidecar": "false",
                    "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "7",
                }
            },
            initContainers=[{"name": "migrate", "image": "shop/migrate"}],
        )
    )
    assert [c["name"] for c in pod["spec"]["containers"]] == ["linkerd-proxy", "web"]
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["migrate", "linkerd-init"]
    assert proxy_of(pod)["lifecycle"] == {
        "postStart": {"exec": {"command": ["/usr/lib/linkerd/linkerd-await", "--timeout=2m", "--port=4191"]}},
        "preStop": {"exec": {"command": ["/bin/sleep", "7"]}},
    }


def test_classic_sidecar_without_await_comes_last() -> None:
    annotations = {
        "config.linkerd.io/proxy-enable-native-sidecar": "false",
        "config.linkerd.io/proxy-await": "disabled",
    }
    pod, _ = injected(a_pod(metadata={"annotations": annotations}))
    assert [c["name"] for c in pod["spec"]["containers"]] == ["web", "linkerd-proxy"]
    assert "lifecycle" not in proxy_of(pod)


def test_labels_and_annotations_mark_a_meshed_pod() -> None:
    pod, _ = injected(a_pod())
    assert pod["metadata"]["labels"] == {
        "app": "web",
        "linkerd.io/control-plane-ns": "linkerd",
        "linkerd.io/workload-ns": "shop",
        "linkerd.io/proxy-deployment": "web",
    }
    assert pod["metadata"]["annotations"] == {
        "linkerd.io/inject": "enabled",
        "linkerd.io/created-by": "linkerd/proxy-injector 0.1.0",
        "linkerd.io/proxy-version": "0.1.0",
        "linkerd.io/trust-root-sha256": hashlib.sha256(ANCHORS.encode()).hexdigest(),
    }


def test_environment_names_the_control_plane_and_the_pod() -> None:
    env = env_of(injected(a_pod())[0])
    account = "serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    expected = {
        "_pod_ns": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "_l5d_ns": "linkerd",
        "LINKERD2_PROXY_CORES": "1",
        "LINKERD2_PROXY_LOG": "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off",
        "LINKERD2_PROXY_DESTINATION_SVC_ADDR": "linkerd-dst-headless.linkerd.svc.cluster.local.:8086",
        "LINKERD2_PROXY_DESTINATION_SVC_NAME": f"linkerd-destination.$(_l5d_ns).{account}",
        "LINKERD2_PROXY_POLICY_SVC_ADDR": "linkerd-policy.linkerd.svc.cluster.local.:8090",
        "LINKERD2_PROXY_IDENTITY_SVC_ADDR": "linkerd-identity-headless.linkerd.svc.cluster.local.:8080",
        "LINKERD2_PROXY_IDENTITY_SVC_NAME": f"linkerd-identity.$(_l5d_ns).{account}",
        "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": f"$(_pod_sa).$(_pod_ns).{account}",
        "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": ANCHORS,
        "LINKERD2_PROXY_POLICY_WORKLOAD": '{"ns":"$(_pod_ns)","pod":"$(_pod_name)"}',
        "LINKERD2_PROXY_INBOUND_IPS": {"fieldRef": {"fieldPath": "status.podIPs"}},
        "LINKERD2_PROXY_INBOUND_PORTS": "8080",
        "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": "0.0.0.0:4191",
        "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140",
        "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s",
        "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION": "25,587,3306,4444,5432,6379,9300,11211",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "LINKERD2_PROXY_INGRESS_MODE" not in env


def test_every_variable_refers_only_to_variables_before_it() -> None:
    seen: set[str] = set()
    for variable in proxy_of(injected(a_pod())[0])["env"]:
        for reference in (part.split(")")[0] for part in variable.get("value", "").split("$(")[1:]):
            assert reference in seen, variable["name"]
        seen.add(variable["name"])


def test_init_container_skips_the_proxys_own_ports() -> None:
    args = init_args(injected(a_pod())[0])
    assert args[:4] == ["--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path", "iptables-nft-save"]
    assert args[args.index("--inbound-ports-to-ignore") + 1] == "4190,4191,4567,4568"
    assert args[args.index("--outbound-ports-to-ignore") + 1] == "4567,4568"
    assert "--proxy-gid" not in args


def test_pod_annotation_beats_the_namespace_and_the_namespace_beats_helm() -> None:
    namespace = {**ENABLED, "config.linkerd.io/proxy-log-level": "info", "config.linkerd.io/admin-port": "9000"}
    pod, _ = injected(a_pod(metadata={"annotations": {"config.linkerd.io/admin-port": "9001"}}), namespace)
    env = env_of(pod)
    assert env["LINKERD2_PROXY_ADMIN_LISTEN_ADDR"] == "0.0.0.0:9001"
    assert env["LINKERD2_PROXY_LOG"].startswith("info,")
    assert pod["metadata"]["annotations"]["config.linkerd.io/proxy-log-level"] == "info"
    assert pod["metadata"]["annotations"]["config.linkerd.io/admin-port"] == "9001"


def test_a_value_that_cannot_be_read_is_left_aside_with_a_warning() -> None:
    pod, outcome = injected(a_pod(metadata={"annotations": {"config.linkerd.io/admin-port": "many"}}))
    assert env_of(pod)["LINKERD2_PROXY_ADMIN_LISTEN_ADDR"] == "0.0.0.0:4191"
    assert len(outcome.warnings) == 1
    assert "config.linkerd.io/admin-port='many'" in outcome.warnings[0]


@pytest.mark.parametrize(
    "annotation",
    [{"config.linkerd.io/proxy-log-http-headers": "loud"}, {"config.linkerd.io/close-wait-timeout": "10s"}],
)
def test_settings_that_must_not_be_ignored_refuse_the_pod(annotation: dict[str, str]) -> None:
    with pytest.raises(BadSetting):
        injected(a_pod(metadata={"annotations": annotation}))


def test_an_empty_trust_bundle_refuses_every_pod() -> None:
    with pytest.raises(BadValues, match="trust bundle"):
        inject_pod(Mesh(MeshSettings(), " \n", "x"), pod_from_json(a_pod()), "shop", ENABLED, OWNER)


def test_cpu_annotations_set_resources_and_worker_threads() -> None:
    annotations = {"config.linkerd.io/proxy-cpu-request": "1500m", "config.linkerd.io/proxy-cpu-limit": "3"}
    pod, _ = injected(a_pod(metadata={"annotations": annotations}))
    assert proxy_of(pod)["resources"] == {"requests": {"cpu": "1500m"}, "limits": {"cpu": "3"}}
    env = env_of(pod)
    assert (env["LINKERD2_PROXY_CORES"], env["LINKERD2_PROXY_CORES_MAX"]) == ("2", "3")


def test_additional_env_merges_by_name_across_levels() -> None:
    namespace = {
        **ENABLED,
        "config.linkerd.io/proxy-additional-env": '[{"name":"A","value":"ns"},{"name":"B","value":"ns"}]',
    }
    own = {"config.linkerd.io/proxy-additional-env": '[{"name":"B","value":"pod \\"quoted\\""}]'}
    env = env_of(injected(a_pod(metadata={"annotations": own}), namespace)[0])
    assert (env["A"], env["B"]) == ("ns", 'pod "quoted"')


def test_opaque_ports_are_the_declared_ones_among_the_defaults_and_names_become_numbers() -> None:
    ports = [{"containerPort": 3306, "name": "mysql"}, {"containerPort": 8080}]
    pod, _ = injected(a_pod(containers=[{"name": "db", "image": "db", "ports": ports}]))
    assert pod["metadata"]["annotations"]["config.linkerd.io/opaque-ports"] == "3306"
    own = a_pod(
        containers=[{"name": "db", "image": "db", "ports": ports}],
        metadata={"annotations": {"config.linkerd.io/opaque-ports": "mysql, 9000-9002,nonsense"}},
    )
    assert env_of(injected(own)[0])["LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"] == "3306,9000-9002"


def test_cni_mode_validates_instead_of_setting_rules() -> None:
    pod, _ = injected(a_pod(), settings=MeshSettings(cni_enabled=True))
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["linkerd-network-validator", "linkerd-proxy"]
    assert [v["name"] for v in pod["spec"]["volumes"]] == ["linkerd-identity-end-entity", "linkerd-identity-token"]


def test_proxy_takes_over_capabilities_and_token_mount_of_the_first_container() -> None:
    mount = {
        "name": "kube-api-access-x",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    container = {
        "name": "web",
        "image": "x",
        "volumeMounts": [mount],
        "securityContext": {"capabilities": {"drop": ["ALL", "NET_RAW"]}},
    }
    pod, _ = injected(a_pod(containers=[container]))
    proxy = proxy_of(pod)
    assert proxy["securityContext"]["capabilities"] == {"drop": ["ALL", "NET_RAW"]}
    assert mount in proxy["volumeMounts"]
    init = pod["spec"]["initContainers"][0]
    assert init["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}


@pytest.mark.parametrize(
    ("namespace", "workload", "reason", "annotation_at"),
    [
        ("sure", "enabled", SkipReason.BAD_NAMESPACE_ANNOTATION, ""),
        ("enabled", "sure", SkipReason.BAD_WORKLOAD_ANNOTATION, ""),
        ("enabled", "disabled", SkipReason.DISABLED, "workload"),
        ("ingress", "", None, "namespace"),
        ("disabled", "ingress", None, "workload"),
        ("", "", SkipReason.NOT_ENABLED, ""),
        ("disabled", "", SkipReason.NOT_ENABLED, ""),
    ],
)
def test_decision_follows_the_table(
    namespace: str, workload: str, reason: SkipReason | None, annotation_at: str
) -> None:
    pod = a_pod(metadata={"annotations": {"linkerd.io/inject": workload}} if workload else {})
    _, outcome = injected(pod, {"linkerd.io/inject": namespace} if namespace else {})
    assert outcome.decision.reasons == (() if reason is None else (reason,))
    assert outcome.decision.annotation_at == annotation_at


def test_reasons_accumulate_in_order() -> None:
    pod = a_pod(hostNetwork=True, initContainers=[{"name": "istio-init", "image": "x"}])
    _, outcome = injected(pod, {})
    assert outcome.decision.reasons == (
        SkipReason.HOST_NETWORK,
        SkipReason.SIDECAR_EXISTS,
        SkipReason.NOT_ENABLED,
    )


def test_an_injected_pod_is_not_injected_again() -> None:
    once, _ = injected(a_pod())
    again, outcome = injected(once)
    assert outcome.decision.reasons == (SkipReason.SIDECAR_EXISTS,)
    assert again == once


def test_a_pod_outside_the_mesh_still_gets_the_opaque_ports_of_its_namespace() -> None:
    pod, outcome = injected(a_pod(), {"config.linkerd.io/opaque-ports": "8080"})
    assert not outcome.injected
    assert pod["metadata"]["annotations"] == {"config.linkerd.io/opaque-ports": "8080"}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"port": 3306}], "3306"),
        ([{"port": 13306, "targetPort": 3306}], "13306"),
        ([{"port": 3306, "targetPort": "mysql"}], None),
        ([{"port": 80}], None),
        ([{"port": 25}, {"port": 587}], "25,587"),
    ],
)
def test_service_lists_its_own_port_numbers(ports: list[dict[str, Any]], expected: str | None) -> None:
    service: dict[str, Any] = {"metadata": {"name": "db"}, "spec": {"ports": ports}}
    result = applied(service, annotate_service(MeshSettings(), service, {}).ops)
    annotations = result["metadata"].get("annotations", {})
    assert annotations.get("config.linkerd.io/opaque-ports") == expected


NAMES = st.text("abcdefgh-/~.", min_size=1, max_size=12)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "image": NAMES},
        optional={
            "ports": st.lists(st.fixed_dictionaries({"containerPort": st.integers(1, 65535)}), max_size=3),
            "args": st.lists(NAMES, max_size=2),
            "securityContext": st.fixed_dictionaries({}, optional={"runAsUser": st.integers(0, 5)}),
        },
    ),
    min_size=1,
    max_size=3,
)
PODS = st.fixed_dictionaries(
    {
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS},
            optional={
                "initContainers": CONTAINERS,
                "volumes": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2),
                "nodeName": NAMES,
            },
        )
    },
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "name": NAMES,
                "labels": st.dictionaries(NAMES, NAMES, max_size=2),
                "annotations": st.dictionaries(NAMES, NAMES, max_size=2),
            },
        )
    },
)


# How long one example takes is the machine's affair.
@settings(deadline=None)
@given(PODS, st.booleans(), st.booleans(), st.booleans())
def test_patch_applies_to_any_pod_and_keeps_every_field_of_the_user(
    pod: dict[str, Any], native: bool, hold: bool, cni: bool
) -> None:
    settings = MeshSettings(native_sidecar=native, await_ready=hold, cni_enabled=cni)
    result, outcome = injected(pod, settings=settings)
    assert outcome.injected
    ours = {"linkerd-proxy", "linkerd-init", "linkerd-network-validator"}
    for kind in ("containers", "initContainers"):
        assert [c for c in result["spec"][kind] if c["name"] not in ours] == pod["spec"].get(kind, [])
    volumes = [v for v in result["spec"]["volumes"] if not v["name"].startswith("linkerd-")]
    assert volumes == pod["spec"].get("volumes", [])
    assert {k: v for k, v in result["spec"].items() if k not in {"containers", "initContainers", "volumes"}} == {
        k: v for k, v in pod["spec"].items() if k not in {"containers", "initContainers", "volumes"}
    }
    for section in ("labels", "annotations"):
        before = pod.get("metadata", {}).get(section, {})
        assert {k: v for k, v in result["metadata"][section].items() if k in before} == before


def test_only_metrics_api_of_the_viz_namespace_may_tap_unless_the_pod_or_its_namespace_opts_out() -> None:
    settings = MeshSettings(viz_namespace="linkerd-viz")
    name = "LINKERD2_PROXY_TAP_SVC_NAME"
    pod, _ = injected(a_pod(), settings=settings)
    domain = "serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    assert env_of(pod)[name] == f"metrics-api.linkerd-viz.{domain}"
    quiet, _ = injected(a_pod(), {**ENABLED, "viz.linkerd.io/disable-tap": "true"}, settings)
    assert name not in env_of(quiet)
    assert name not in env_of(injected(a_pod())[0])
