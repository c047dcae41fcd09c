"""Server-side printing: the columns `kubectl get` shows. `now_s` is Unix time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from weft_local.apiserver.kinds import Kind

Object = Mapping[str, Any]
Cell = str | int
NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """wide: shown with -o wide only."""

    name: str
    cell: Callable[[Object, float], Cell]
    type: str = "string"
    wide: bool = False


def table(kind: Kind, objects: Sequence[Object], now_s: float, list_metadata: Object, include: str) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table. include: Metadata, Object or None, as the client asked."""
    columns = _columns(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_metadata),
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if column.name == "Name" else "",
                "description": column.name,
                "priority": int(column.wide),
            }
            for column in columns
        ],
        "rows": [
            {"cells": [column.cell(obj, now_s) for column in columns], "object": _included(obj, include)}
            for obj in objects
        ],
    }


def age(timestamp: str | None, now_s: float) -> str:
    """A duration as kubectl writes ages: 45s, 3m12s, 5h30m, 2d4h, 400d."""
    if not timestamp:
        return UNKNOWN
    seconds = int(now_s - datetime.fromisoformat(timestamp).timestamp())
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def _included(obj: Object, include: str) -> Any:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"},
    }


def _columns(kind: Kind) -> tuple[Column, ...]:
    if kind.is_custom and kind.printer_columns:
        custom = tuple(
            Column(n, _json_path(path, t), t if t != "date" else "string") for n, t, path in kind.printer_columns
        )
        return (_NAME, *custom, *(() if any(c.name == "Age" for c in custom) else (_AGE,)))
    return _BY_KIND.get(kind.id, (_NAME, _AGE))


def _json_path(path: str, type_: str) -> Callable[[Object, float], Cell]:
    parts = [part for part in path.strip(".").split(".") if part]

    def cell(obj: Object, now_s: float) -> Cell:
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            return ""
        if type_ == "date":
            return age(str(value), now_s)
        return value if isinstance(value, int) and not isinstance(value, bool) else str(value)

    return cell


def _at(obj: Object, *path: str, default: Any = None) -> Any:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            return default
    return value


_NAME: Final = Column("Name", lambda obj, _: str(obj["metadata"]["name"]))
_AGE: Final = Column("Age", lambda obj, now: age(obj["metadata"].get("creationTimestamp"), now))


def _count(*path: str) -> Callable[[Object, float], Cell]:
    return lambda obj, _: int(_at(obj, *path, default=0))


def _containers(obj: Object) -> tuple[list[Object], list[Object], list[Object]]:
    """Regular containers, native sidecars and plain init containers of a pod."""
    init = obj["spec"].get("initContainers") or []
    sidecars = [container for container in init if container.get("restartPolicy") == "Always"]
    return obj["spec"].get("containers") or [], sidecars, [c for c in init if c.get("restartPolicy") != "Always"]


def _statuses(obj: Object) -> dict[str, Object]:
    status = obj.get("status") or {}
    return {
        item["name"]: item
        for field in ("initContainerStatuses", "containerStatuses")
        for item in status.get(field) or []
    }


def pod_ready(obj: Object, _: float = 0) -> str:
    """Ready of total, native sidecars included."""
    regular, sidecars, _init = _containers(obj)
    statuses = _statuses(obj)
    ready = sum(bool(statuses.get(c["name"], {}).get("ready")) for c in [*regular, *sidecars])
    return f"{ready}/{len(regular) + len(sidecars)}"


def pod_status(obj: Object, _: float = 0) -> str:
    """The word kubectl shows: phase, waiting or termination reason, Init:n/m, Terminating."""
    status = obj.get("status") or {}
    reason = status.get("reason") or status.get("phase") or "Pending"
    statuses = _statuses(obj)
    init = obj["spec"].get("initContainers") or []
    initializing = False
    for index, container in enumerate(init):
        item = statuses.get(container["name"], {})
        state = item.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated and terminated.get("exitCode") == 0:
            continue
        if container.get("restartPolicy") == "Always" and item.get("started"):
            continue
        if terminated:
            reason = f"Init:{terminated.get('reason') or 'ExitCode:' + str(terminated.get('exitCode'))}"
        elif waiting and waiting.get("reason") not in (None, "PodInitializing"):
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{index}/{len(init)}"
        initializing = bool(statuses)
        break
    if not initializing:
        running = False
        for item in reversed(status.get("containerStatuses") or []):
            state = item.get("state") or {}
            if waiting := state.get("waiting"):
                reason = waiting.get("reason") or reason
            elif terminated := state.get("terminated"):
                reason = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode')}"
            elif item.get("ready") and state.get("running"):
                running = True
        if reason == "Completed" and running:
            reason = "Running"
    if obj["metadata"].get("deletionTimestamp"):
        reason = "Terminating"
    return str(reason)


def _pod_restarts(obj: Object, now_s: float) -> str:
    statuses = _statuses(obj)
    restarts = sum(int(item.get("restartCount", 0)) for item in statuses.values())
    ends = [_at(item, "lastState", "terminated", "finishedAt") for item in statuses.values()]
    last = max((end for end in ends if end), default=None)
    return f"{restarts} ({age(last, now_s)} ago)" if restarts and last else str(restarts)


def _service_ports(obj: Object, _: float) -> str:
    ports = obj["spec"].get("ports") or []
    return (
        ",".join(f"{p['port']}{':' + str(p['nodePort']) if p.get('nodePort') else ''}/{p['protocol']}" for p in ports)
        or NONE
    )


def _pairs(*path: str) -> Callable[[Object, float], Cell]:
    return lambda obj, _: ",".join(f"{k}={v}" for k, v in sorted((_at(obj, *path) or {}).items())) or NONE


def _template(field: str) -> Callable[[Object, float], Cell]:
    return lambda obj, _: ",".join(str(c.get(field)) for c in _at(obj, "spec", "template", "spec", "containers") or [])


def _ready_of(ready: str, total: tuple[str, ...]) -> Callable[[Object, float], Cell]:
    return lambda obj, _: f"{_at(obj, 'status', ready, default=0)}/{_at(obj, *total, default=0)}"


def _slice_addresses(obj: Object, _: float) -> str:
    return ",".join(a for endpoint in obj.get("endpoints") or [] for a in endpoint.get("addresses") or []) or "<unset>"


def _slice_ports(obj: Object, _: float) -> str:
    return ",".join(str(port.get("port")) for port in obj.get("ports") or []) or "<unset>"


def _endpoints(obj: Object, _: float) -> str:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    return ",".join(found) or NONE


def _node_ready(obj: Object, _: float) -> str:
    for condition in _at(obj, "status", "conditions") or []:
        if condition["type"] == "Ready":
            return "Ready" if condition["status"] == "True" else "NotReady"
    return "Unknown"


def _event_age(obj: Object, now_s: float) -> str:
    return age(obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp"), now_s)


_BY_KIND: Final[dict[str, tuple[Column, ...]]] = {
    "/pods": (
        _NAME,
        Column("Ready", pod_ready),
        Column("Status", pod_status),
        Column("Restarts", _pod_restarts),
        _AGE,
        Column("IP", lambda obj, _: _at(obj, "status", "podIP", default=NONE), wide=True),
        Column("Node", lambda obj, _: _at(obj, "spec", "nodeName", default=NONE), wide=True),
        Column("Nominated Node", lambda obj, _: _at(obj, "status", "nominatedNodeName", default=NONE), wide=True),
        Column("Readiness Gates", lambda obj, _: NONE, wide=True),
    ),
    "/services": (
        _NAME,
        Column("Type", lambda obj, _: str(obj["spec"].get("type", ""))),
        Column("Cluster-IP", lambda obj, _: obj["spec"].get("clusterIP") or NONE),
        Column("External-IP", lambda obj, _: obj["spec"].get("externalName") or NONE),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _pairs("spec", "selector"), wide=True),
    ),
    "apps/deployments": (
        _NAME,
        Column("Ready", _ready_of("readyReplicas", ("spec", "replicas"))),
        Column("Up-to-date", _count("status", "updatedReplicas"), "integer"),
        Column("Available", _count("status", "availableReplicas"), "integer"),
        _AGE,
        Column("Containers", _template("name"), wide=True),
        Column("Images", _template("image"), wide=True),
        Column("Selector", _pairs("spec", "selector", "matchLabels"), wide=True),
    ),
    "apps/replicasets": (
        _NAME,
        Column("Desired", _count("spec", "replicas"), "integer"),
        Column("Current", _count("status", "replicas"), "integer"),
        Column("Ready", _count("status", "readyReplicas"), "integer"),
        _AGE,
    ),
    "apps/statefulsets": (_NAME, Column("Ready", _ready_of("readyReplicas", ("spec", "replicas"))), _AGE),
    "apps/daemonsets": (
        _NAME,
        Column("Desired", _count("status", "desiredNumberScheduled"), "integer"),
        Column("Current", _count("status", "currentNumberScheduled"), "integer"),
        Column("Ready", _count("status", "numberReady"), "integer"),
        _AGE,
    ),
    "batch/jobs": (
        _NAME,
        Column("Completions", _ready_of("succeeded", ("spec", "completions"))),
        _AGE,
    ),
    "/namespaces": (_NAME, Column("Status", lambda obj, _: _at(obj, "status", "phase", default="Active")), _AGE),
    "/nodes": (
        _NAME,
        Column("Status", _node_ready),
        Column("Roles", lambda obj, _: NONE),
        _AGE,
        Column("Version", lambda obj, _: _at(obj, "status", "nodeInfo", "kubeletVersion", default="")),
    ),
    "/configmaps": (
        _NAME,
        Column("Data", lambda obj, _: len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), "integer"),
        _AGE,
    ),
    "/secrets": (
        _NAME,
        Column("Type", lambda obj, _: str(obj.get("type", ""))),
        Column("Data", lambda obj, _: len(obj.get("data") or {}), "integer"),
        _AGE,
    ),
    "/endpoints": (_NAME, Column("Endpoints", _endpoints), _AGE),
    "discovery.k8s.io/endpointslices": (
        _NAME,
        Column("AddressType", lambda obj, _: str(obj.get("addressType", ""))),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ),
    "/events": (
        Column("Last Seen", _event_age),
        Column("Type", lambda obj, _: str(obj.get("type", ""))),
        Column("Reason", lambda obj, _: str(obj.get("reason", ""))),
        Column(
            "Object",
            lambda obj, _: (
                f"{_at(obj, 'involvedObject', 'kind', default='').lower()}/"
                f"{_at(obj, 'involvedObject', 'name', default='')}"
            ),
        ),
        Column("Message", lambda obj, _: str(obj.get("message", ""))),
    ),
}
