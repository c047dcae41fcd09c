"""The kubeconfig of a local cluster: one server, one administrator's token."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

import yaml

CONTEXT_PREFIX: Final = "weft-local"


def kubeconfig(name: str, server: str, ca_pem: str, token: str) -> str:
    """As YAML text. server: https://host:port."""
    context = f"{CONTEXT_PREFIX}-{name}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                },
            }
        ],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": "default"}}],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read; it never exists with wider permissions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.touch(mode=0o600)
    temporary.chmod(0o600)
    temporary.write_text(text)
    temporary.replace(path)
