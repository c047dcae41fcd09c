"""Pods as real processes: namespaces, mounts, users, probes, restarts, stop order, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from weft_common.kube.resource import CONFIG_MAPS, ENDPOINT_SLICES, PODS, SERVICES
from weft_local.node.tests.harness import NAMESPACE, TestCluster, is_ready, machine_state, running_cluster

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SERVER = [sys.executable, "-m", "http.server"]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[TestCluster]:
    async with running_cluster("podtest", tmp_path / "state", 247, working_dir=tmp_path) as running:
        yield running


def container(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "test", "command": list(command), **fields}


def shell(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return container(name, "sh", "-c", script, **fields)


def state_of(pod: dict[str, Any], name: str) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
    return next((s for s in statuses if s["name"] == name), {})


async def test_containers_share_an_address_and_pods_reach_each_other(cluster: TestCluster) -> None:
    (Path(cluster.settings.working_dir) / "hello.txt").write_text("hello from the working directory")
    probe = {"httpGet": {"port": "http", "path": "/hello.txt"}, "periodSeconds": 1}
    web = container("web", *SERVER, "8000", ports=[{"name": "http", "containerPort": 8000}], readinessProbe=probe)
    await cluster.create_pod("server", {"containers": [web, shell("beside", "sleep 100")]})
    ready = await cluster.pod_where("server", is_ready)
    ip = ready["status"]["podIP"]
    code, text = await cluster.exec("server", "curl", "-s", "http://127.0.0.1:8000/hello.txt", container="beside")
    assert (code, text) == (0, "hello from the working directory")
    await cluster.create_pod(
        "client", {"restartPolicy": "Never", "containers": [shell("c", f"curl -s http://{ip}:8000/hello.txt")]}
    )
    done = await cluster.pod_where("client", lambda p: p.get("status", {}).get("phase") == "Succeeded")
    assert await cluster.log("client") == "hello from the working directory\n"
    assert state_of(done, "c")["state"]["terminated"]["exitCode"] == 0


async def test_user_mounts_environment_and_tokens_are_as_the_manifest_says(cluster: TestCluster) -> None:
    await cluster.kube.create(
        CONFIG_MAPS.path(NAMESPACE),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"mode": "fast", "a.b": "1"},
        },
    )
    token = {"serviceAccountToken": {"path": "token", "audience": "mesh", "expirationSeconds": 3600}}
    volumes = [
        {"name": "config", "configMap": {"name": "settings"}},
        {"name": "shared", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "identity", "projected": {"sources": [token]}},
        {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    mounts = [
        {"name": "config", "mountPath": "/etc/settings"},
        {"name": "shared", "mountPath": "/shared"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "identity", "mountPath": "/var/run/secrets/tokens"},
        {"name": "info", "mountPath": "/info"},
    ]
    env = [
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(MODE)-$(IP)"},
    ]
    security = {
        "runAsUser": 2102,
        "runAsGroup": 2102,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
    }
    main = shell("c", "sleep 100", volumeMounts=mounts, env=env, securityContext=security)
    await cluster.create_pod("files", {"containers": [main], "volumes": volumes})
    pod = await cluster.pod_where("files", is_ready)
    for command, expected in {
        "id -u": "2102",
        "id -g": "2102",
        "cat /etc/settings/mode": "fast",
        "echo $BOTH": f"fast-{pod['status']['podIP']}",
        "cat /info/name": "files",
        "echo x > /shared/y && cat /shared/y": "x",
        "stat -f -c %T /memory": "tmpfs",
        "cut -c1-2 /var/run/secrets/tokens/token": "ey",
        "hostname": "files",
        "touch /etc/x 2>&1 | grep -o Read-only": "Read-only",
        "grep -c . /proc/net/route": "2",
        "ls -d /proc/1 && ls -d /proc/[0-9]* | wc -l | grep -qv '..'": "/proc/1",
    }.items():
        code, text = await cluster.exec("files", "sh", "-c", command)
        assert (command, text.strip()) == (command, expected), code
    code, text = await cluster.exec("files", sys.executable, "-c", "import weft_common.version as v; print(v.VERSION)")
    assert (code, text.strip()) == (0, "0.1.0")
    await cluster.kube.patch(CONFIG_MAPS.path(NAMESPACE, "settings"), {"data": {"mode": "slow"}})
    async with asyncio.timeout(5):
        while (await cluster.exec("files", "cat", "/etc/settings/mode"))[1] != "slow":  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


async def test_added_capability_lets_another_user_change_its_network(cluster: TestCluster) -> None:
    security = {"runAsUser": 65534, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}}
    rule = "iptables -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 80 && iptables-save -t nat"
    mount = [{"name": "lock", "mountPath": "/run"}]
    init = shell("init", rule, securityContext=security, volumeMounts=mount)
    spec = {
        "initContainers": [init],
        "containers": [shell("c", "sleep 100")],
        "volumes": [{"name": "lock", "emptyDir": {}}],
    }
    await cluster.create_pod("redirect", spec)
    await cluster.pod_where("redirect", is_ready)
    assert "--to-ports 80" in await cluster.log("redirect", "init")


async def test_sidecars_start_first_and_stop_last(cluster: TestCluster) -> None:
    def marked(name: str, **fields: Any) -> dict[str, Any]:
        script = f"echo start {name} >> /t/order; trap 'echo stop {name} >> /t/order; exit 0' TERM; sleep 1000 & wait"
        return shell(name, script, volumeMounts=[{"name": "t", "mountPath": "/t"}], **fields)

    order = cluster.settings.working_dir / "shared"
    order.mkdir()
    startup = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    spec = {
        "initContainers": [
            marked("first", restartPolicy="Always", startupProbe=startup),
            shell("once", "echo init >> /t/order", volumeMounts=[{"name": "t", "mountPath": "/t"}]),
            marked("second", restartPolicy="Always"),
        ],
        "containers": [
            marked("app", lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /t/order"]}}})
        ],
        "volumes": [{"name": "t", "hostPath": {"path": str(order)}}],
    }
    await cluster.create_pod("ordered", spec)
    await cluster.pod_where("ordered", is_ready)
    # Ready says that the processes run, not that the shell has come to its second command.
    async with asyncio.timeout(5):
        while "start app" not in (order / "order").read_text():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    await cluster.kube.delete(PODS.path(NAMESPACE, "ordered"))
    await cluster.gone("ordered")
    lines = (order / "order").read_text().splitlines()
    assert lines[:2] == ["start first", "init"]
    assert lines[-4:] == ["hook", "stop app", "stop second", "stop first"]


async def test_crash_loop_shows_back_off_last_state_and_the_last_lines(cluster: TestCluster) -> None:
    crashing = shell("c", "echo reason of the crash; exit 3", terminationMessagePolicy="FallbackToLogsOnError")
    await cluster.create_pod("crash", {"containers": [crashing]})

    def is_looping(pod: dict[str, Any]) -> bool:
        state = state_of(pod, "c") if "status" in pod else {}
        return bool(state.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")

    pod = await cluster.pod_where("crash", is_looping)
    last = state_of(pod, "c")["lastState"]["terminated"]
    assert (last["exitCode"], last["message"]) == (3, "reason of the crash")
    assert state_of(pod, "c")["restartCount"] >= 1


async def test_readiness_follows_the_probe_both_ways(cluster: TestCluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready-flag"]}, "periodSeconds": 1, "failureThreshold": 1}
    await cluster.create_pod("flag", {"containers": [shell("c", "sleep 1000", readinessProbe=probe)]})
    await cluster.pod_where(
        "flag", lambda p: "running" in state_of(p, "c").get("state", {}) if "status" in p else False
    )
    assert (await cluster.exec("flag", "touch", "/tmp/ready-flag"))[0] == 0
    await cluster.pod_where("flag", is_ready)
    assert (await cluster.exec("flag", "rm", "/tmp/ready-flag"))[0] == 0
    await cluster.pod_where("flag", lambda p: not is_ready(p))


async def test_failed_liveness_probe_restarts_the_container(cluster: TestCluster) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await cluster.create_pod("sick", {"containers": [shell("c", "sleep 1000", livenessProbe=probe)]})
    pod = await cluster.pod_where(
        "sick", lambda p: state_of(p, "c").get("restartCount", 0) > 0 if "status" in p else False
    )
    assert state_of(pod, "c")["lastState"]["terminated"]["exitCode"] == 137


async def test_unknown_image_without_command_says_what_to_do(cluster: TestCluster) -> None:
    await cluster.create_pod("unknown", {"containers": [{"name": "c", "image": "shop/api:1"}]})

    def is_refused(pod: dict[str, Any]) -> bool:
        state = state_of(pod, "c").get("state", {}) if "status" in pod else {}
        return bool(state.get("waiting", {}).get("reason") == "ErrImagePull")

    pod = await cluster.pod_where("unknown", is_refused)
    assert "--image shop/api=" in state_of(pod, "c")["state"]["waiting"]["message"]


async def test_program_that_does_not_exist_is_a_start_error(cluster: TestCluster) -> None:
    await cluster.create_pod("typo", {"restartPolicy": "Never", "containers": [container("c", "/no/such/program")]})
    pod = await cluster.pod_where("typo", lambda p: p.get("status", {}).get("phase") == "Failed")
    end = state_of(pod, "c")["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "No such file" in end["message"]


async def test_service_names_and_addresses_lead_to_ready_pods(cluster: TestCluster) -> None:
    web = container("web", *SERVER, "8000", readinessProbe={"tcpSocket": {"port": 8000}, "periodSeconds": 1})
    await cluster.create_pod("backend", {"containers": [web]})
    pod = await cluster.pod_where("backend", is_ready)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8000}]},
    }
    made = await cluster.kube.create(SERVICES.path(NAMESPACE), service)
    nobody = {**service, "metadata": {"name": "nobody"}}
    await cluster.kube.create(SERVICES.path(NAMESPACE), nobody)
    (cluster.settings.working_dir / "index.html").write_text("found")
    await cluster.kube.create(
        ENDPOINT_SLICES.path(NAMESPACE),
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "shop-1", "labels": {"kubernetes.io/service-name": "shop"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [pod["status"]["podIP"]], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        },
    )
    await cluster.create_pod("asker", {"containers": [shell("c", "sleep 1000")]})
    await cluster.pod_where("asker", is_ready)
    retry = ["--retry", "20", "--retry-connrefused", "--retry-delay", "0"]
    assert await cluster.exec("asker", "curl", "-s", *retry, "http://shop/") == (0, "found")
    # The host itself, and a pod that reaches itself.
    host = await asyncio.create_subprocess_exec(
        "curl", "-s", f"http://{made['spec']['clusterIP']}/", stdout=asyncio.subprocess.PIPE
    )
    assert (await host.communicate())[0] == b"found"
    assert await cluster.exec("backend", "curl", "-s", "http://shop.default/") == (0, "found")
    code, _ = await cluster.exec("asker", "curl", "-s", "-m", "5", "http://nobody/")
    assert code == 7, "a service without endpoints refuses at once"


async def test_stopping_the_cluster_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    settings_probe: dict[str, str] = {}
    async with running_cluster("podtest", tmp_path / "state", 247, working_dir=tmp_path) as cluster:
        memory = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
        mounted = shell("c", "sleep 1000", volumeMounts=[{"name": "m", "mountPath": "/m"}])
        await cluster.create_pod("any", {"containers": [mounted], "volumes": memory})
        await cluster.pod_where("any", is_ready)
        settings = cluster.settings
        settings_probe = machine_state(settings)
    assert all(settings_probe[part] for part in ("namespaces", "links", "routes", "tables", "mounts")), settings_probe
    after = machine_state(settings)
    assert {part: text for part, text in after.items() if text and part != "forwarding"} == {}
    assert json.dumps(sorted(p.name for p in settings.state_dir.iterdir())) == '["tls.crt", "tls.key"]'


async def test_our_own_images_run_as_the_users_their_manifests_name(cluster: TestCluster) -> None:
    init = {
        "name": "init",
        "image": "weft/proxy:0.1.0",
        "command": ["/usr/lib/linkerd/linkerd2-proxy-init", "--version"],
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534},
    }
    proxy = {
        "name": "proxy",
        "image": "registry.example/weft/proxy:0.1.0",
        "args": ["--version"],
        "command": ["weft-proxy"],
        "securityContext": {"runAsUser": 2102, "runAsGroup": 2102},
    }
    await cluster.create_pod("ours", {"restartPolicy": "Never", "initContainers": [init], "containers": [proxy]})
    await cluster.pod_where("ours", lambda p: p.get("status", {}).get("phase") in ("Succeeded", "Failed"))
    assert "0.1.0" in await cluster.log("ours", "init")
    assert "0.1.0" in await cluster.log("ours", "proxy")


async def test_redis_image_runs_the_bundled_server(cluster: TestCluster) -> None:
    args = ["--save", "", "--appendonly", "no"]
    redis = {"name": "redis", "image": "redis:7", "args": args, "readinessProbe": {"tcpSocket": {"port": 6379}}}
    await cluster.create_pod("cache", {"containers": [redis]})
    await cluster.pod_where("cache", is_ready)
