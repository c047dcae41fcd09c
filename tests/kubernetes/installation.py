"""The control plane on an API server under test: charts installed by helm, services run as processes.

A service runs as its pod would: with the environment of its Deployment, the contents of the Secrets and ConfigMaps it
mounts, and a token of its own ServiceAccount, so that the charts' RBAC rules decide what it may do. Only ports differ,
since all share this machine.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml
from weft_local.cluster import pki

from tests.kubernetes.api_servers import REPOSITORY, ApiServer
from tests.kubernetes.processes import Program, free_ports, running

CONTROL_PLANE: Final = "linkerd"
INJECTOR_HOST: Final = f"linkerd-proxy-injector.{CONTROL_PLANE}.svc"
_BIN: Final = Path(sys.executable).parent
_READY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs. ports: by the name of the container port."""

    program: Program
    ports: Mapping[str, int]

    @property
    def admin_url(self) -> str:
        (port,) = (port for name, port in self.ports.items() if name.endswith("-admin"))
        return f"http://127.0.0.1:{port}"

    def metrics(self) -> str:
        """What Prometheus would scrape."""
        with urllib.request.urlopen(f"{self.admin_url}/metrics", timeout=10) as response:
            return str(response.read().decode())

    def missing(self) -> str:
        """Why it is not ready, empty when it is."""
        try:
            with urllib.request.urlopen(f"{self.admin_url}/ready", timeout=10):
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode() or str(error)
        except OSError as error:
            return str(error)


@dataclass(frozen=True, slots=True)
class Installation:
    """Charts and services on one API server. anchor: the mesh's trust anchor."""

    api: ApiServer
    folder: Path
    values: Path
    anchor: pki.Credentials

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl as administrator. Raises AssertionError with its errors."""
        command = ["kubectl", "--kubeconfig", str(self.api.kubeconfig), "--cache-dir", str(self.folder / "kubectl")]
        return _run([*command, *arguments], stdin)

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def install(self, chart: str, *arguments: str) -> None:
        """`helm upgrade --install` of one component."""
        command = [str(_BIN / "helm"), "upgrade", "--install", chart, str(REPOSITORY / "charts" / chart)]
        namespace = ["--namespace", CONTROL_PLANE, "--create-namespace"]
        _run([*command, *namespace, "--kubeconfig", str(self.api.kubeconfig), "--values", str(self.values), *arguments])

    def token_of(self, account: str, namespace: str = CONTROL_PLANE, *arguments: str) -> str:
        """A token from the TokenRequest API."""
        return self.kubectl("create", "token", account, "--namespace", namespace, *arguments).strip()

    @contextmanager
    def service(self, deployment: str, *, wait: bool = True, **environ: str) -> Iterator[Service]:
        """Run the service of a Deployment until the block ends. wait: until it is ready.

        environ: replaces settings of the Deployment, and the KUBECONFIG with its own ServiceAccount's token.
        """
        spec = self.get("deployment", deployment, "--namespace", CONTROL_PLANE)["spec"]["template"]["spec"]
        container = next(one for one in spec["containers"] if one["name"] != "linkerd-proxy")
        name = str(container["name"])
        ports = dict(
            zip((port["name"] for port in container["ports"]), free_ports(len(container["ports"])), strict=True)
        )
        token = self.token_of(spec["serviceAccountName"])
        settings = {
            **self._environment(spec, container, ports),
            "KUBECONFIG": str(self.api.kubeconfig_for(name, token)),
            **environ,
        }
        # Our images and the programs in them are named alike: weft/injector:1 runs weft-injector.
        program_name = "weft-" + str(container["image"]).rpartition("/")[2].partition(":")[0]
        with running(name, [str(_BIN / program_name)], self.folder, settings) as program:
            service = Service(program, ports)
            if wait:
                program.wait_until(lambda: not service.missing(), _READY_S)
            yield service

    def publish(self, service: str, port: int, address: str, namespace: str = CONTROL_PLANE) -> None:
        """Write the EndpointSlice that sends a Service's only port to a process here."""
        found = self.get("service", service, "--namespace", namespace)
        (service_port,) = found["spec"]["ports"]
        self.apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{service}-here",
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": service_port.get("name", ""), "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            }
        )

    def _environment(
        self, spec: Mapping[str, Any], container: Mapping[str, Any], ports: Mapping[str, int]
    ) -> dict[str, str]:
        """The container's settings, with ports and mounted files where they are on this machine."""
        moved = {str(port["containerPort"]): str(ports[port["name"]]) for port in container["ports"]}
        mounts = {str(mount["mountPath"]): self._contents(spec, mount) for mount in container.get("volumeMounts") or ()}
        environ: dict[str, str] = {}
        for entry in container["env"]:
            name, value = entry["name"], str(entry.get("value", ""))
            if name.endswith("_PORT"):
                value = moved.get(value, value)
            for path, folder in mounts.items():
                if value == path or value.startswith(f"{path}/"):
                    value = str(folder) + value.removeprefix(path)
            environ[name] = value
        # There is no cluster DNS that would resolve it.
        environ["WEFT_REDIS_URL"] = ""
        return environ

    def _contents(self, spec: Mapping[str, Any], mount: Mapping[str, Any]) -> Path:
        """Write what a Secret or a ConfigMap holds into a folder of this machine."""
        folder = self.folder / str(mount["name"])
        folder.mkdir(exist_ok=True)
        volume = next(one for one in spec["volumes"] if one["name"] == mount["name"])
        if "secret" in volume:
            found = self.get("secret", volume["secret"]["secretName"], "--namespace", CONTROL_PLANE)
            contents = {name: base64.b64decode(data) for name, data in found.get("data", {}).items()}
        elif "configMap" in volume:
            found = self.get("configmap", volume["configMap"]["name"], "--namespace", CONTROL_PLANE)
            contents = {name: data.encode() for name, data in found.get("data", {}).items()}
        else:
            contents = {}
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        return folder


def new_installation(api: ApiServer, folder: Path) -> Installation:
    """Keys of a new mesh, as values for its charts; nothing is installed yet."""
    now = datetime.now(UTC)
    anchor = pki.certificate_authority("root.linkerd.cluster.local", now)
    issuer = pki.certificate_authority("identity.linkerd.cluster.local", now, anchor)
    webhook_ca = pki.certificate_authority("linkerd-proxy-injector", now)
    webhook = pki.server_certificate(webhook_ca, [INJECTOR_HOST], [], now)
    values = {
        "identityTrustAnchorsPEM": anchor.certificate_pem,
        "identity": {"issuer": {"tls": {"crtPEM": issuer.certificate_pem, "keyPEM": issuer.key_pem}}},
        "proxyInjector": {
            "caBundle": webhook_ca.certificate_pem,
            "crtPEM": webhook.certificate_pem,
            "keyPEM": webhook.key_pem,
        },
    }
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump({"global": values}))
    return Installation(api, folder, path, anchor)


def _run(command: list[str], stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
