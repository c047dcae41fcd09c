"""Two API servers to test against: kube-apiserver on etcd, and the one inside `weft local`, each in its own process.

Neither has controllers, a scheduler or nodes: tests write what those would, or run controllers of their own. Both
listen on loopback only and know one administrator by a static token.
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from weft_common.kube.config import KubeConfig
from weft_local.cluster import pki
from weft_local.cluster.kubeconfig import kubeconfig, write_private

from tests.kubernetes.processes import free_ports, running

REPOSITORY: Final = Path(__file__).parents[2]
KUBE_APISERVER: Final = "kube-apiserver"
EMBEDDED: Final = "weft-local"
SERVICE_CIDR: Final = "10.97.0.0/16"
_START_S: Final = 60.0
_NAMES: Final = ("localhost", "kubernetes.default.svc")

# Who was refused what: the tests of permissions read it.
_AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
"""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server. kubeconfig: the administrator's. log: its output. audit: requests of service accounts."""

    name: str
    config: KubeConfig
    kubeconfig: Path
    folder: Path
    pids: tuple[int, ...]

    @property
    def enforces_rbac(self) -> bool:
        """The embedded server stores RBAC objects and lets everybody in."""
        return self.name == KUBE_APISERVER

    def kubeconfig_for(self, name: str, token: str) -> Path:
        """A kubeconfig with another user's token."""
        path = self.folder / f"kubeconfig-{name}"
        write_private(path, kubeconfig(name, self.config.server, self.config.ca_pem or "", token))
        return path

    def refusals(self, namespace: str) -> list[str]:
        """Requests of a namespace's service accounts that RBAC refused so far: `account verb path`."""
        audit = self.folder / "audit.log"
        events = map(json.loads, audit.read_text().splitlines()) if audit.exists() else ()
        prefix = f"system:serviceaccount:{namespace}:"
        return [
            f"{event['user']['username'].removeprefix(prefix)} {event['verb']} {event['requestURI']}"
            for event in events
            if event.get("responseStatus", {}).get("code") == 403 and event["user"]["username"].startswith(prefix)
        ]


@contextmanager
def kube_apiserver(folder: Path) -> Iterator[ApiServer]:
    """Boot etcd and kube-apiserver; seconds, once the program is built."""
    program = kube_apiserver_program()
    port, etcd_port, peer_port = free_ports(3)
    config = _write_keys(folder, port)
    (folder / "audit.yaml").write_text(_AUDIT_POLICY)
    (folder / "tokens.csv").write_text(f'{config.token},admin,admin,"system:masters"\n')
    etcd_url, peer_url = (f"http://127.0.0.1:{one}" for one in (etcd_port, peer_port))
    etcd = [
        *("etcd", "--name=test", f"--data-dir={folder / 'etcd'}", "--log-level=warn"),
        *(f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"),
        *(f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"),
        f"--initial-cluster=test={peer_url}",
    ]
    key = folder / "service-accounts.key"
    apiserver = [
        str(program),
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={key}",
        f"--service-account-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        # Nothing carries traffic to ClusterIPs here: webhooks are called at their endpoints.
        "--enable-aggregator-routing=true",
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--profiling=false",
        "--v=1",
    ]
    with running("etcd", etcd, folder) as store, running(KUBE_APISERVER, apiserver, folder) as server:
        server.wait_until(lambda: _answers(config, "/readyz"), _START_S)
        yield _api_server(KUBE_APISERVER, config, folder, (server.process.pid, store.process.pid))


@contextmanager
def embedded_api_server(folder: Path) -> Iterator[ApiServer]:
    """Boot the API server of `weft local` alone."""
    (port,) = free_ports(1)
    config = _write_keys(folder, port)
    command = [sys.executable, "-m", "tests.kubernetes.embedded", str(folder), str(port)]
    with running(
        EMBEDDED, command, folder, {"PYTHONPATH": str(REPOSITORY), "WEFT_TEST_TOKEN": config.token or ""}
    ) as server:
        server.wait_until(lambda: _answers(config, "/api/v1/namespaces"), _START_S)
        yield _api_server(EMBEDDED, config, folder, (server.process.pid,))


BOOT: Final = {EMBEDDED: embedded_api_server, KUBE_APISERVER: kube_apiserver}


def kube_apiserver_program() -> Path:
    """The program, built first where this machine has none. Raises AssertionError with the reason it cannot be had."""
    script = REPOSITORY / "scripts" / "kube-apiserver"
    done = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"{script} failed; its output says why"
    return Path(done.stdout.strip())


def _write_keys(folder: Path, port: int) -> KubeConfig:
    now = datetime.now(UTC)
    authority = pki.certificate_authority("api server under test", now)
    serving = pki.server_certificate(authority, _NAMES, ["127.0.0.1"], now)
    write_private(folder / "tls.crt", serving.certificate_pem)
    write_private(folder / "tls.key", serving.key_pem)
    pem = pki.new_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    write_private(folder / "service-accounts.key", pem.decode())
    return KubeConfig(
        server=f"https://127.0.0.1:{port}", ca_pem=authority.certificate_pem, token=secrets.token_urlsafe(24)
    )


def _api_server(name: str, config: KubeConfig, folder: Path, pids: tuple[int, ...]) -> ApiServer:
    path = folder / "kubeconfig"
    write_private(path, kubeconfig("test", config.server, config.ca_pem or "", config.token or ""))
    return ApiServer(name, config, path, folder, pids)


def _answers(config: KubeConfig, path: str) -> bool:
    tls = ssl.create_default_context(cadata=config.ca_pem)
    request = urllib.request.Request(config.server + path, headers={"Authorization": f"Bearer {config.token}"})
    try:
        with urllib.request.urlopen(request, context=tls, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
