"""Whom a container runs as: user, groups and capability sets. Numbers only, no system call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft_local.node.core.spec import ALL_CAPABILITIES, PodSpec, Security

# Order is the kernel's numbering (include/uapi/linux/capability.h).
CAPABILITIES: Final = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
# What container runtimes leave to a root user by default.
DEFAULT_CAPABILITIES: Final = frozenset(
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ]
)
_NUMBER: Final = {name: number for number, name in enumerate(CAPABILITIES)}


@dataclass(frozen=True, slots=True)
class RunAs:
    """bounding, ambient: bit masks by capability number. groups: supplementary, without gid."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    bounding: int
    ambient: int
    no_new_privs: bool


def run_as(pod: PodSpec, security: Security) -> RunAs:
    """Merge defaults, additions and removals. Raises ValueError for a capability that does not exist.

    A user other than root gets exactly the added capabilities, as ambient ones: the programs here carry no file
    capabilities as those in an image could, so without this an added capability would mean nothing.
    """
    uid = security.user or 0
    gid = security.group or 0
    if security.privileged:
        bounding = _mask(frozenset(CAPABILITIES))
    else:
        kept = frozenset[str]() if ALL_CAPABILITIES in security.drop else DEFAULT_CAPABILITIES - set(security.drop)
        added = frozenset(CAPABILITIES) if ALL_CAPABILITIES in security.add else frozenset(security.add)
        bounding = _mask(kept | added)
    ambient = 0
    if uid != 0:
        ambient = bounding if security.privileged else _mask(frozenset(security.add) - {ALL_CAPABILITIES})
    groups = set(pod.supplemental_groups)
    if pod.fs_group is not None:
        groups.add(pod.fs_group)
    return RunAs(uid, gid, tuple(sorted(groups - {gid})), bounding, ambient, not security.may_gain_privileges)


def _mask(names: frozenset[str]) -> int:
    unknown = sorted(names - set(_NUMBER))
    if unknown:
        raise ValueError(f"unknown capability {', '.join(unknown)}")
    return sum(1 << _NUMBER[name] for name in names)
