"""CA files on this machine: read what people pass, keep what is made. Keys are written for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography import x509
from weft_local.cluster.kubeconfig import write_private
from weft_local.cluster.pki import Credentials

from weft_cli.cluster import local_kubeconfig
from weft_cli.core.rotation_plan import CaFile, ca_file
from weft_cli.errors import BadInput, CliError

_LOCAL_MARK: Final = "mesh-values.yaml"


def read_ca_file(path: Path) -> CaFile:
    """Raises BadInput."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else 'not text'}") from error
    return ca_file(text, str(path))


def known_anchor_file(bundle_pem: str, kubeconfig: Path | None) -> CaFile:
    """The key of an anchor in use, where one is at hand: beside a local cluster's kubeconfig, or here.

    Raises BadInput when there is none.
    """
    anchors = x509.load_pem_x509_certificates(bundle_pem.encode())
    for folder in _folders(kubeconfig):
        for path in sorted(folder.glob("anchor-*.pem")):
            found = read_ca_file(path)
            if found.owner in anchors:
                return found
    raise BadInput(
        "the key of the trust anchor is not at hand, so no issuer can be made",
        hint="pass --to FILE: a new issuer with its key, or the anchor with its key",
    )


def save_anchor(anchor: Credentials, kubeconfig: Path | None) -> Path:
    """Where the anchor and its key were written, mode 0600. Raises CliError."""
    path = _folders(kubeconfig)[0] / f"anchor-{anchor.id[:12]}.pem"
    try:
        write_private(path, anchor.certificate_pem + anchor.key_pem)
    except OSError as error:
        raise CliError(f"cannot keep the new anchor's key in {path}: {error.strerror}; nothing was changed") from error
    return path


def _folders(kubeconfig: Path | None) -> list[Path]:
    """The state of the local cluster that is meant, if it is one, then the working directory."""
    named = kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else local_kubeconfig())
    local = [named.parent] if named is not None and (named.parent / _LOCAL_MARK).is_file() else []
    return [*local, Path.cwd()]
