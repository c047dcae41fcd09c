"""What is known on disk about one local cluster: where its files are, and which process runs it.

Invariant: a record counts as running only while its pid still belongs to the process that wrote it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from weft_local.cluster.kubeconfig import write_private
from weft_local.node.settings import default_state_dir

DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class StateDir:
    """The files of a cluster. Everything below root belongs to it and goes with it."""

    name: str
    root: Path

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def order(self) -> Path:
        """What the cluster's process was asked to do."""
        return self.root / "order.json"

    @property
    def log(self) -> Path:
        return self.root / "cluster.log"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    def anchor_file(self, anchor_id: str) -> Path:
        """Certificate and key of a trust anchor. anchor_id: SHA-256 of the certificate, hexadecimal."""
        return self.root / f"anchor-{anchor_id[:12]}.pem"

    @property
    def values(self) -> Path:
        """Helm values of the control plane; holds private keys."""
        return self.root / "mesh-values.yaml"


@dataclass(frozen=True, slots=True)
class Record:
    """A cluster that runs, or ran. started_at: Unix seconds. process_start: the kernel's start tick of pid.

    serving: whether the API answers yet. web: address of the UI on this host. manifests: what -f named, absolute.
    """

    name: str
    pid: int
    process_start: int
    started_at: float
    api: str
    web: str
    manifests: tuple[str, ...]
    serving: bool

    @property
    def is_running(self) -> bool:
        return process_start(self.pid) == self.process_start


def state_dir(name: str) -> StateDir:
    """Where the cluster of this name keeps its files: below $WEFT_HOME, else /var/lib/weft-local."""
    return StateDir(name, default_state_dir(name).resolve())


def read_record(state: StateDir) -> Record | None:
    """None when there is no cluster, or a record that cannot be read: then only `down` can help."""
    try:
        fields = json.loads(state.record.read_text())
        return Record(**{**fields, "manifests": tuple(fields["manifests"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(state: StateDir, record: Record) -> None:
    """Atomic: readers see the old one or the new one."""
    write_private(state.record, json.dumps(asdict(record), indent=1))


def running(state: StateDir) -> Record | None:
    """The record of a cluster whose process lives."""
    record = read_record(state)
    return record if record is not None and record.is_running else None


def process_start(pid: int) -> int | None:
    """Start time of a process in kernel ticks, None when there is none (or only its remains)."""
    try:
        # The command in field 2 may hold spaces and parentheses; everything after the last one is regular.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class AnotherAtWork(Exception):
    """Another `up` or `down` of the same cluster holds the lock."""


@contextmanager
def exclusively(state: StateDir) -> Iterator[None]:
    """Hold the cluster's lock, without waiting. Raises AnotherAtWork.

    The lock file lies beside the folder and not in it, because `down` removes the folder while holding it.
    """
    state.root.parent.mkdir(parents=True, exist_ok=True)
    path = state.root.parent / f".{state.name}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnotherAtWork(f"another `weft local` command is busy with cluster {state.name!r}") from error
        yield
    finally:
        os.close(fd)


def remove_lock(state: StateDir) -> None:
    """Take the lock file away, and the folder above it unless another cluster keeps something there."""
    (state.root.parent / f".{state.name}.lock").unlink(missing_ok=True)
    with suppress(OSError):
        state.root.parent.rmdir()
