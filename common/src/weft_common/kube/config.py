"""How to reach and authenticate to an API server: in-cluster files or a kubeconfig.

Reads files and the environment; opens no connection. Exec and auth-provider plugins are not run here; a kubeconfig that
needs one is refused by name.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from weft_common.settings import ConfigurationError

SERVICE_ACCOUNT_DIR: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeConfigError(ConfigurationError):
    """No usable configuration. The text says where it was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """One API server and one way to authenticate.

    server: https://host:port without a trailing slash. ca_pem: None trusts the system's roots.
    token_file: read again for every request, because projected tokens rotate. namespace: default for commands.
    """

    server: str
    ca_pem: str | None = None
    token: str | None = None
    token_file: Path | None = None
    client_cert_pem: str | None = None
    client_key_pem: str | None = None
    namespace: str = "default"
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None


def load_kube_config(
    kubeconfig: Path | None = None, environ: Mapping[str, str] = os.environ, context: str | None = None
) -> KubeConfig:
    """In-cluster when KUBERNETES_SERVICE_HOST is set and no file is given, else $KUBECONFIG, else ~/.kube/config.

    Raises KubeConfigError.
    """
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in environ:
        return _in_cluster(environ)
    candidates = [kubeconfig] if kubeconfig else [Path(p) for p in environ.get("KUBECONFIG", "").split(":") if p]
    candidates = candidates or [Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"]
    for candidate in candidates:
        if candidate.is_file():
            return _from_file(candidate, context)
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise KubeConfigError(f"no kubeconfig at {tried}: start a cluster with `weft local up`, or pass --kubeconfig FILE")


def _in_cluster(environ: Mapping[str, str]) -> KubeConfig:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    ca_file, token_file = SERVICE_ACCOUNT_DIR / "ca.crt", SERVICE_ACCOUNT_DIR / "token"
    if not token_file.is_file():
        raise KubeConfigError(f"{token_file} is missing: the pod needs automountServiceAccountToken or a token volume")
    namespace_file = SERVICE_ACCOUNT_DIR / "namespace"
    return KubeConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_pem=ca_file.read_text() if ca_file.is_file() else None,
        token_file=token_file,
        namespace=namespace_file.read_text().strip() if namespace_file.is_file() else "default",
    )


def _from_file(path: Path, context_name: str | None) -> KubeConfig:
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise KubeConfigError(f"{path} is not YAML: {error}") from error
    except OSError as error:
        raise KubeConfigError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(document, dict):
        raise KubeConfigError(f"{path} is not a kubeconfig: expected a mapping")
    wanted = context_name or document.get("current-context")
    context = _named(document, "contexts", "context", wanted, path)
    cluster = _named(document, "clusters", "cluster", context.get("cluster"), path)
    user = _named(document, "users", "user", context.get("user"), path) if context.get("user") else {}
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise KubeConfigError(f"{path}: user {context.get('user')} needs {plugin!r}, which is not supported yet")
    if not cluster.get("server"):
        raise KubeConfigError(f"{path}: cluster {context.get('cluster')} has no server")
    token_file = user.get("tokenFile")
    return KubeConfig(
        server=str(cluster["server"]).rstrip("/"),
        ca_pem=_pem(cluster, "certificate-authority", path),
        token=user.get("token"),
        token_file=path.parent / token_file if token_file else None,
        client_cert_pem=_pem(user, "client-certificate", path),
        client_key_pem=_pem(user, "client-key", path),
        namespace=context.get("namespace", "default"),
        insecure_skip_tls_verify=bool(cluster.get("insecure-skip-tls-verify", False)),
        tls_server_name=cluster.get("tls-server-name"),
    )


def _named(document: dict[str, Any], section: str, inner: str, name: object, path: Path) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry.get("name") == name:
            return entry.get(inner) or {}
    raise KubeConfigError(f"{path}: no entry named {name!r} in {section}")


def _pem(section: dict[str, Any], field: str, path: Path) -> str | None:
    if data := section.get(f"{field}-data"):
        return base64.b64decode(str(data)).decode()
    if file := section.get(field):
        target = path.parent / str(file)
        try:
            return target.read_text()
        except OSError as error:
            raise KubeConfigError(f"{path}: {field} {target}: {error.strerror}") from error
    return None
