"""The proxies that are compared: how each is started between its two pods. Order here is the order of the tables."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import peer_configs
from bench.certs import CLIENT_NAME, SERVER_NAME, make_certificates
from bench.load import FORTIO, Case, folder_of_large_file
from bench.pods import Pod, make_pods
from bench.report import REPOSITORY

LOAD_CORE: Final = 1 if (os.cpu_count() or 1) > 1 else 0
PROXY_CORE: Final = 0
PROXY_GID: Final = 2103
START_LIMIT_S: Final = 20
PLANE: Final = REPOSITORY / "services/proxy/tests/e2e/plane.py"


class PeerUnavailable(Exception):
    """Why a peer is not measured here; printed and written into the results."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer. targets: where the client sends each case; proxies: process by side (`out`, `in`)."""

    name: str
    client: Pod
    server: Pod
    targets: Mapping[Case, str]
    proxies: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Site:
    client: Pod
    server: Pod
    folder: Path
    anchors: str

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    start: Callable[[Site], tuple[Mapping[Case, str], Mapping[str, int]]]
    mutual_tls: bool
    hops: int
    cases: tuple[Case, ...] = field(default=tuple(Case))


def begin(peer: Peer, folder: Path, stack: contextlib.ExitStack) -> Running:
    """Pods, backends and the peer itself, answering."""
    folder.mkdir()
    folder.chmod(0o755)
    client, server = make_pods(folder, stack)
    site = Site(client, server, folder, make_certificates(folder))
    (folder / "token").write_text("any")
    nginx = _program("nginx")
    backend = site.write("backend.conf", peer_configs.backend(folder, folder_of_large_file(folder)))
    server.spawn(nginx, "-c", backend, "-g", "daemon off;", core=LOAD_CORE)
    server.spawn(str(FORTIO), "server", "-grpc-port", "8082", "-http-port", "disabled",
                 "-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled",
                 core=LOAD_CORE, env={**os.environ, "GOMAXPROCS": "1"})  # fmt: skip
    for case in Case:
        _await_port(server, server.ip, case.port)
    targets, proxies = peer.start(site)
    return Running(peer.name, client, server, targets, proxies)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}")
    if found is None:
        raise PeerUnavailable(f"{name} is not installed")
    return found


def _await_port(pod: Pod, ip: str, port: int) -> None:
    probe = f"import socket; socket.create_connection(({ip!r}, {port}), 1).close()"
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            pod.run(sys.executable, "-S", "-c", probe)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise PeerUnavailable(f"nothing listens on {ip}:{port} after {START_LIMIT_S} s") from None
            time.sleep(0.1)
        else:
            return


def _direct(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
    return _pair_targets(site), {}


def _hop_targets(cases: tuple[Case, ...] = tuple(Case)) -> dict[Case, str]:
    return {case: f"127.0.0.1:{case.port + peer_configs.OUT}" for case in cases}


def _envoy(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
    program = _program("envoy")
    proxies = {}
    for number, (side, pod) in enumerate((("in", site.server), ("out", site.client))):
        config = site.write(f"envoy-{side}.json", json.dumps(peer_configs.envoy(side, site.folder, site.server.ip)))
        _redirect(pod)
        process = pod.spawn(program, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error",
                            "--base-id", str(number), core=PROXY_CORE, group=PROXY_GID)  # fmt: skip
        proxies[side] = process.pid
        _await_port(pod, "127.0.0.1", peer_configs.ENVOY_PORT[side])
    return _pair_targets(site), {"out": proxies["out"], "in": proxies["in"]}


def _redirect(pod: Pod) -> None:
    """The rules of a meshed pod."""
    pod.run(sys.executable, "-m", "weft_proxy.init", "--ipv6=false", f"--proxy-gid={PROXY_GID}",
            "--inbound-ports-to-ignore=4190,4191")  # fmt: skip


def _pair_targets(site: Site) -> dict[Case, str]:
    return {case: f"{site.server.ip}:{case.port}" for case in Case}


def _haproxy(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
    config = site.write("haproxy.cfg", peer_configs.haproxy(site.server.ip))
    process = site.client.spawn(_program("haproxy"), "-db", "-f", config, core=PROXY_CORE)
    _await_port(site.client, "127.0.0.1", Case.HTTP1.port + peer_configs.OUT)
    return _hop_targets(), {"out": process.pid}


def _nginx(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
    config = site.write("hop.conf", peer_configs.nginx_hop(site.folder, site.server.ip))
    process = site.client.spawn(_program("nginx"), "-c", config, core=PROXY_CORE)
    _await_port(site.client, "127.0.0.1", Case.HTTP1.port + peer_configs.OUT)
    return _hop_targets(peer_configs.NGINX_CASES), {"out": process.pid}


def _mesh(
    command: tuple[str, ...], engine: Path | None = None
) -> Callable[[Site], tuple[Mapping[Case, str], Mapping[str, int]]]:
    """A sidecar on each side behind real redirect rules; engine: a folder whose weft_engine is used instead."""

    def start(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
        proxies = {}
        for side, pod, identity in (("in", site.server, SERVER_NAME), ("out", site.client, CLIENT_NAME)):
            plane = pod.spawn(sys.executable, str(PLANE), str(site.folder), site.server.ip, CLIENT_NAME, core=LOAD_CORE)
            assert plane.stdout is not None
            port = plane.stdout.readline().strip()
            if not port:
                raise PeerUnavailable("the control plane did not start")
            _redirect(pod)
            env = _sidecar_environment(pod, identity, port, site)
            if engine is not None:
                env["PYTHONPATH"] = str(engine)
            proxies[side] = pod.spawn(*command, core=PROXY_CORE, group=PROXY_GID, env=env).pid
            pod.run(sys.executable, "-m", "weft_proxy.await_ready", "--timeout=20s")
        return _pair_targets(site), {"out": proxies["out"], "in": proxies["in"]}

    return start


def _sidecar_environment(pod: Pod, identity: str, plane_port: str, site: Site) -> dict[str, str]:
    folder = site.folder / pod.name
    folder.mkdir(exist_ok=True)
    settings = {
        "IDENTITY_SVC_ADDR": f"localhost.:{plane_port}",
        "DESTINATION_SVC_ADDR": f"localhost.:{plane_port}",
        "POLICY_SVC_ADDR": f"localhost.:{plane_port}",
        "POLICY_WORKLOAD": json.dumps({"ns": "shop", "pod": pod.name}),
        "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
        "IDENTITY_DIR": str(folder),
        "IDENTITY_TOKEN_FILE": str(site.folder / "token"),
        "IDENTITY_TRUST_ANCHORS": site.anchors,
        "IDENTITY_LOCAL_NAME": identity,
        "INBOUND_IPS": pod.ip,
        "INBOUND_PORTS": ",".join(str(case.port) for case in Case),
        "ADMIN_LISTEN_ADDR": "0.0.0.0:4191",
        "SHUTDOWN_GRACE_PERIOD": "2s",
        "CORES": "1",
    }
    return {f"LINKERD2_PROXY_{key}": value for key, value in settings.items()}


def _linkerd(site: Site) -> tuple[Mapping[Case, str], Mapping[str, int]]:
    found = shutil.which("linkerd2-proxy")
    if found is None:
        raise PeerUnavailable("linkerd2-proxy is not on PATH; it is measured only where the user put it")
    import weft_engine

    for pod, identity in ((site.server, SERVER_NAME), (site.client, CLIENT_NAME)):
        folder = site.folder / pod.name
        folder.mkdir(exist_ok=True)
        key, csr = weft_engine.generate_key_and_csr(identity)
        (folder / "key.p8").write_bytes(key)
        (folder / "csr.der").write_bytes(csr)
    return _mesh((found,))(site)


def peers(engines: Mapping[str, Path]) -> list[Peer]:
    """Every peer; engines: builds of the engine to compare, by name."""
    weft = (sys.executable, "-m", "weft_proxy")
    variants = [Peer(f"weft-{name}", _mesh(weft, folder), mutual_tls=True, hops=2) for name, folder in engines.items()]
    return [
        Peer("direct", _direct, mutual_tls=False, hops=0),
        Peer("weft", _mesh(weft), mutual_tls=True, hops=2),
        *variants,
        Peer("linkerd2-proxy", _linkerd, mutual_tls=True, hops=2),
        Peer("envoy", _envoy, mutual_tls=True, hops=2),
        Peer("haproxy", _haproxy, mutual_tls=False, hops=1),
        Peer("nginx", _nginx, mutual_tls=False, hops=1, cases=peer_configs.NGINX_CASES),
    ]
