"""Where one embedded cluster lives on this machine: addresses, names and directories. Derived once, never guessed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

DEFAULT_POD_CIDR: Final = IPv4Network("10.250.0.0/16")
DEFAULT_SERVICE_CIDR: Final = IPv4Network("10.251.0.0/16")
NODE_NAME: Final = "weft-local"
CLUSTER_DOMAIN: Final = "cluster.local"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """name: of the cluster, distinguishes its links, namespaces and rules from those of others.

    state_dir: ours alone; mode 0700. working_dir: where containers without workingDir run. entrypoints: image name to
    command, from --image. api_host: None stands for the first service address.
    """

    name: str
    state_dir: Path
    pod_cidr: IPv4Network = DEFAULT_POD_CIDR
    service_cidr: IPv4Network = DEFAULT_SERVICE_CIDR
    api_host: str | None = None
    api_port: int = 443
    working_dir: Path = field(default_factory=Path.cwd)
    entrypoints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    node_name: str = NODE_NAME
    cluster_domain: str = CLUSTER_DOMAIN

    @property
    def gateway_ip(self) -> IPv4Address:
        """The node's own address in the pod network; DNS answers there."""
        return self.pod_cidr[1]

    @property
    def dns_ip(self) -> IPv4Address:
        """Where pods send their queries."""
        return self.gateway_ip

    @property
    def kubernetes_host(self) -> str:
        """KUBERNETES_SERVICE_HOST of every container."""
        return self.api_host or str(self.service_cidr[1])

    @property
    def gateway_link(self) -> str:
        """Name of the link that carries gateway_ip."""
        return f"wf-{_digest(self.name, 8)}"

    @property
    def netns_prefix(self) -> str:
        """Names of pod network namespaces begin with this."""
        return f"weft-{self.name}-"

    @property
    def nft_table(self) -> str:
        """Name of the nftables table that holds this cluster's rules."""
        return "weft-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in self.name)

    def netns_name(self, pod_uid: str) -> str:
        """Network namespace of a pod, below /run/netns."""
        return self.netns_prefix + _digest(pod_uid, 10)

    def veth_name(self, pod_uid: str) -> str:
        """The host's end of a pod's link; 15 characters at most, as the kernel wants."""
        return f"wf{_digest(self.name, 4)}{_digest(pod_uid, 8)}"

    @property
    def veth_prefix(self) -> str:
        """Names of all pod links of this cluster begin with this."""
        return f"wf{_digest(self.name, 4)}"

    def pod_dir(self, pod_uid: str) -> Path:
        """Volumes, scratch space and specifications of a pod."""
        return self.state_dir / "pods" / pod_uid

    def log_dir(self, namespace: str, pod: str, pod_uid: str) -> Path:
        """Log files of a pod; they outlive its restarts."""
        return self.state_dir / "logs" / f"{namespace}_{pod}_{pod_uid}"


def default_state_dir(name: str) -> Path:
    """$WEFT_HOME/local/NAME, else /var/lib/weft-local/NAME."""
    home = os.environ.get("WEFT_HOME")
    return (Path(home) / "local" if home else Path("/var/lib/weft-local")) / name


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
