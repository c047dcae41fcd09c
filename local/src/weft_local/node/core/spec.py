"""What the node reads of a Pod, as values. Parses the API's JSON once; raises ValueError for what it cannot use.

Knows nothing of processes or mounts. Fields the node does not act on (affinity, tolerations, seccomp) are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

Json = Mapping[str, Any]

DEFAULT_GRACE_S: Final = 30
ALL_CAPABILITIES: Final = "ALL"


class RestartPolicy(Enum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class Role(Enum):
    """INIT runs to its end before the next starts; SIDECAR is an init container that stays; APP is a main container."""

    INIT = "init"
    SIDECAR = "sidecar"
    APP = "app"


@dataclass(frozen=True, slots=True)
class HttpGet:
    """port: number or name of a container port. headers: sent as they are, in order."""

    port: int | str
    path: str = "/"
    scheme: str = "HTTP"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: int | str
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grpc:
    port: int
    service: str = ""


@dataclass(frozen=True, slots=True)
class Sleep:
    """A lifecycle hook that only waits."""

    seconds: int


Check = HttpGet | TcpSocket | Exec | Grpc
Hook = HttpGet | TcpSocket | Exec | Sleep


@dataclass(frozen=True, slots=True)
class Probe:
    """A check and when to believe it. Units: seconds, and consecutive results."""

    check: Check
    initial_delay_s: int = 0
    period_s: int = 10
    timeout_s: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: int | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """Whom a container runs as, the pod's setting already merged in. None leaves the image's choice, which is root."""

    user: int | None = None
    group: int | None = None
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    privileged: bool = False
    may_gain_privileges: bool = True
    readonly_root: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    volume: str
    path: str
    readonly: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """env and env_from stay in the API's shape; `env.py` reads them when their references are known."""

    name: str
    role: Role
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str | None = None
    env: tuple[Json, ...] = ()
    env_from: tuple[Json, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    resources: Json = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    security: Security = Security()
    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None
    post_start: Hook | None = None
    pre_stop: Hook | None = None
    log_as_message: bool = False
    termination_message_path: str = "/dev/termination-log"
    tty: bool = False

    def port_number(self, port: int | str) -> int:
        """Raises ValueError for a name that no container port has."""
        if isinstance(port, int):
            return port
        if port.isdigit():
            return int(port)
        if port in self.ports:
            return self.ports[port]
        raise ValueError(f"container {self.name} has no port named {port!r}")


@dataclass(frozen=True, slots=True)
class PodSpec:
    """containers: init containers and sidecars in their order, then main containers in theirs.

    deleting: the API server was asked to delete it. grace_s: how long it may take to stop.
    """

    namespace: str
    name: str
    uid: str
    raw: Json
    containers: tuple[ContainerSpec, ...]
    volumes: Mapping[str, Json]
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    service_account: str = "default"
    deleting: bool = False
    grace_s: int = DEFAULT_GRACE_S
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    active_deadline_s: int | None = None
    phase: str = "Pending"
    pod_ip: str = ""

    @property
    def metadata(self) -> Json:
        return _mapping(self.raw, "metadata")

    def of_role(self, *roles: Role) -> tuple[ContainerSpec, ...]:
        return tuple(c for c in self.containers if c.role in roles)

    def container(self, name: str) -> ContainerSpec | None:
        return next((c for c in self.containers if c.name == name), None)


def pod_from_json(raw: Json) -> PodSpec:
    """Read a Pod. Raises ValueError or KeyError for one that the API server should not have admitted."""
    metadata, spec = _mapping(raw, "metadata"), _mapping(raw, "spec")
    status = raw.get("status") or {}
    security = spec.get("securityContext") or {}
    inits = tuple(
        _container(c, Role.SIDECAR if c.get("restartPolicy") == "Always" else Role.INIT, security)
        for c in spec.get("initContainers") or ()
    )
    apps = tuple(_container(c, Role.APP, security) for c in spec.get("containers") or ())
    grace = metadata.get("deletionGracePeriodSeconds")
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return PodSpec(
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        uid=metadata["uid"],
        raw=raw,
        containers=inits + apps,
        volumes={v["name"]: v for v in spec.get("volumes") or ()},
        restart_policy=RestartPolicy(spec.get("restartPolicy", "Always")),
        node_name=spec.get("nodeName", ""),
        hostname=(spec.get("hostname") or metadata["name"])[:63],
        subdomain=spec.get("subdomain", ""),
        service_account=spec.get("serviceAccountName") or "default",
        deleting=bool(metadata.get("deletionTimestamp")),
        grace_s=int(grace),
        fs_group=security.get("fsGroup"),
        supplemental_groups=tuple(security.get("supplementalGroups") or ()),
        active_deadline_s=spec.get("activeDeadlineSeconds"),
        phase=status.get("phase", "Pending"),
        pod_ip=status.get("podIP", ""),
    )


def _container(raw: Json, role: Role, pod_security: Json) -> ContainerSpec:
    lifecycle = raw.get("lifecycle") or {}
    return ContainerSpec(
        name=raw["name"],
        role=role,
        image=raw.get("image", ""),
        command=tuple(raw.get("command") or ()),
        args=tuple(raw.get("args") or ()),
        working_dir=raw.get("workingDir") or None,
        env=tuple(raw.get("env") or ()),
        env_from=tuple(raw.get("envFrom") or ()),
        ports={p["name"]: int(p["containerPort"]) for p in raw.get("ports") or () if p.get("name")},
        resources=raw.get("resources") or {},
        mounts=tuple(_mount(m) for m in raw.get("volumeMounts") or ()),
        security=_security(raw.get("securityContext") or {}, pod_security),
        startup=_probe(raw.get("startupProbe")),
        liveness=_probe(raw.get("livenessProbe")),
        readiness=_probe(raw.get("readinessProbe")),
        post_start=_hook(lifecycle.get("postStart")),
        pre_stop=_hook(lifecycle.get("preStop")),
        log_as_message=raw.get("terminationMessagePolicy") == "FallbackToLogsOnError",
        termination_message_path=raw.get("terminationMessagePath") or "/dev/termination-log",
        tty=bool(raw.get("tty")),
    )


def _mount(raw: Json) -> Mount:
    return Mount(
        volume=raw["name"],
        path=raw["mountPath"],
        readonly=bool(raw.get("readOnly")),
        sub_path=raw.get("subPath", ""),
        sub_path_expr=raw.get("subPathExpr", ""),
    )


def _security(own: Json, pod: Json) -> Security:
    capabilities = own.get("capabilities") or {}
    return Security(
        user=own.get("runAsUser", pod.get("runAsUser")),
        group=own.get("runAsGroup", pod.get("runAsGroup")),
        add=tuple(_capability(c) for c in capabilities.get("add") or ()),
        drop=tuple(_capability(c) for c in capabilities.get("drop") or ()),
        privileged=bool(own.get("privileged")),
        may_gain_privileges=own.get("allowPrivilegeEscalation") is not False,
        readonly_root=bool(own.get("readOnlyRootFilesystem")),
    )


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _probe(raw: Json | None) -> Probe | None:
    if not raw:
        return None
    check = _check(raw)
    if check is None:
        raise ValueError("a probe needs httpGet, tcpSocket, exec or grpc")
    return Probe(
        check=check,
        initial_delay_s=int(raw.get("initialDelaySeconds") or 0),
        period_s=max(1, int(raw.get("periodSeconds") or 10)),
        timeout_s=max(1, int(raw.get("timeoutSeconds") or 1)),
        success_threshold=max(1, int(raw.get("successThreshold") or 1)),
        failure_threshold=max(1, int(raw.get("failureThreshold") or 3)),
        grace_s=raw.get("terminationGracePeriodSeconds"),
    )


def _check(raw: Json) -> Check | None:
    readers: dict[str, Callable[[Json], Check]] = {
        "httpGet": _http_get,
        "tcpSocket": lambda r: TcpSocket(r["port"], r.get("host") or None),
        "exec": lambda r: Exec(tuple(r.get("command") or ())),
        "grpc": lambda r: Grpc(int(r["port"]), r.get("service") or ""),
    }
    return next((read(raw[kind] or {}) for kind, read in readers.items() if kind in raw), None)


def _http_get(raw: Json) -> HttpGet:
    return HttpGet(
        port=raw["port"],
        path=raw.get("path") or "/",
        scheme=(raw.get("scheme") or "HTTP").upper(),
        host=raw.get("host") or None,
        headers=tuple((h["name"], h.get("value", "")) for h in raw.get("httpHeaders") or ()),
    )


def _hook(raw: Json | None) -> Hook | None:
    if not raw:
        return None
    if "sleep" in raw:
        return Sleep(int(raw["sleep"]["seconds"]))
    check = _check(raw)
    return None if check is None or isinstance(check, Grpc) else check


def _mapping(raw: Json, name: str) -> Json:
    value = raw.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected a mapping")
    return value


# --- quantities -------------------------------------------------------------------------------------------------

_SUFFIXES: Final = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
_QUANTITY: Final = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]i?)?$")


def quantity(text: str) -> float:
    """A Kubernetes quantity such as 500m or 64Mi as a plain number. Raises ValueError."""
    match = _QUANTITY.match(str(text))
    if match is None or (match[2] or "") not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity; expected a number such as 500m, 2 or 64Mi")
    return float(match[1]) * _SUFFIXES[match[2] or ""]
