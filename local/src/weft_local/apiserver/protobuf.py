"""Bodies in Kubernetes' protobuf form, which kubectl's create helpers and some Go programs send.

A message is described as data: field number to name and type. Only what those helpers write is described; a field
that is not is refused by number, never dropped. Answers are always JSON, which every client accepts beside protobuf.
Source: the generated.proto files of the Kubernetes API; the envelope is runtime.Unknown behind four magic bytes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from weft_local.apiserver.errors import ApiError

MAGIC: Final = b"k8s\x00"


class Scalar(Enum):
    """How a field's bytes become a JSON value. The plain ones are left out when they hold Go's zero value."""

    TEXT = 1
    COUNT = 2
    FLAG = 3
    BYTES = 4
    TIME = 5
    INT_OR_STRING = 6
    OPTIONAL_TEXT = 7
    OPTIONAL_COUNT = 8
    OPTIONAL_FLAG = 9
    IGNORED = 10


@dataclass(frozen=True, slots=True)
class Many:
    """A repeated field."""

    of: Scalar | Message


@dataclass(frozen=True, slots=True)
class Entries:
    """A map with text keys."""

    of: Scalar


Message = Mapping[int, "tuple[str, Scalar | Many | Entries | Message]"]

_TEXT, _COUNT, _FLAG, _IGNORED = Scalar.TEXT, Scalar.COUNT, Scalar.FLAG, Scalar.IGNORED
_TEXTS: Final = Many(_TEXT)
_LABELS: Final = Entries(_TEXT)
_OWNER: Final[Message] = {
    1: ("kind", _TEXT),
    3: ("name", _TEXT),
    4: ("uid", _TEXT),
    5: ("apiVersion", _TEXT),
    6: ("controller", Scalar.OPTIONAL_FLAG),
    7: ("blockOwnerDeletion", Scalar.OPTIONAL_FLAG),
}
_METADATA: Final[Message] = {
    1: ("name", _TEXT),
    2: ("generateName", _TEXT),
    3: ("namespace", _TEXT),
    4: ("selfLink", _TEXT),
    5: ("uid", _TEXT),
    6: ("resourceVersion", _TEXT),
    7: ("generation", _COUNT),
    8: ("creationTimestamp", Scalar.TIME),
    11: ("labels", _LABELS),
    12: ("annotations", _LABELS),
    13: ("ownerReferences", Many(_OWNER)),
    14: ("finalizers", _TEXTS),
}
_NAMED: Final[Message] = {1: ("name", _TEXT)}
_SELECTOR: Final[Message] = {
    1: ("matchLabels", _LABELS),
    2: ("matchExpressions", Many({1: ("key", _TEXT), 2: ("operator", _TEXT), 3: ("values", _TEXTS)})),
}
_CONTAINER: Final[Message] = {
    1: ("name", _TEXT),
    2: ("image", _TEXT),
    3: ("command", _TEXTS),
    4: ("args", _TEXTS),
    5: ("workingDir", _TEXT),
    6: (
        "ports",
        Many(
            {
                1: ("name", _TEXT),
                2: ("hostPort", _COUNT),
                3: ("containerPort", _COUNT),
                4: ("protocol", _TEXT),
                5: ("hostIP", _TEXT),
            }
        ),
    ),
    7: ("env", Many({1: ("name", _TEXT), 2: ("value", _TEXT)})),
    8: ("resources", {}),
    13: ("terminationMessagePath", _TEXT),
    14: ("imagePullPolicy", _TEXT),
    16: ("stdin", _FLAG),
    17: ("stdinOnce", _FLAG),
    18: ("tty", _FLAG),
    20: ("terminationMessagePolicy", _TEXT),
}
_POD_SPEC: Final[Message] = {
    2: ("containers", Many(_CONTAINER)),
    3: ("restartPolicy", _TEXT),
    4: ("terminationGracePeriodSeconds", Scalar.OPTIONAL_COUNT),
    6: ("dnsPolicy", _TEXT),
    7: ("nodeSelector", _LABELS),
    8: ("serviceAccountName", _TEXT),
    9: ("serviceAccount", _TEXT),
    10: ("nodeName", _TEXT),
    11: ("hostNetwork", _FLAG),
    12: ("hostPID", _FLAG),
    13: ("hostIPC", _FLAG),
    16: ("hostname", _TEXT),
    17: ("subdomain", _TEXT),
    19: ("schedulerName", _TEXT),
    20: ("initContainers", Many(_CONTAINER)),
    21: ("automountServiceAccountToken", Scalar.OPTIONAL_FLAG),
    24: ("priorityClassName", _TEXT),
}
_TEMPLATE: Final[Message] = {1: ("metadata", _METADATA), 2: ("spec", _POD_SPEC)}
_SERVICE_PORT: Final[Message] = {
    1: ("name", _TEXT),
    2: ("protocol", _TEXT),
    3: ("port", _COUNT),
    4: ("targetPort", Scalar.INT_OR_STRING),
    5: ("nodePort", _COUNT),
    6: ("appProtocol", Scalar.OPTIONAL_TEXT),
}
_SERVICE_SPEC: Final[Message] = {
    1: ("ports", Many(_SERVICE_PORT)),
    2: ("selector", _LABELS),
    3: ("clusterIP", _TEXT),
    4: ("type", _TEXT),
    5: ("externalIPs", _TEXTS),
    7: ("sessionAffinity", _TEXT),
    8: ("loadBalancerIP", _TEXT),
    10: ("externalName", _TEXT),
    11: ("externalTrafficPolicy", _TEXT),
    12: ("healthCheckNodePort", _COUNT),
    13: ("publishNotReadyAddresses", _FLAG),
}
_DEPLOYMENT_SPEC: Final[Message] = {
    1: ("replicas", Scalar.OPTIONAL_COUNT),
    2: ("selector", _SELECTOR),
    3: ("template", _TEMPLATE),
    4: ("strategy", {1: ("type", _TEXT)}),
    5: ("minReadySeconds", _COUNT),
    6: ("revisionHistoryLimit", Scalar.OPTIONAL_COUNT),
    7: ("paused", _FLAG),
    9: ("progressDeadlineSeconds", Scalar.OPTIONAL_COUNT),
}
_JOB_SPEC: Final[Message] = {
    1: ("parallelism", Scalar.OPTIONAL_COUNT),
    2: ("completions", Scalar.OPTIONAL_COUNT),
    3: ("activeDeadlineSeconds", Scalar.OPTIONAL_COUNT),
    6: ("template", _TEMPLATE),
    7: ("backoffLimit", Scalar.OPTIONAL_COUNT),
}
_RULE: Final[Message] = {
    1: ("verbs", _TEXTS),
    2: ("apiGroups", _TEXTS),
    3: ("resources", _TEXTS),
    4: ("resourceNames", _TEXTS),
    5: ("nonResourceURLs", _TEXTS),
}
_SUBJECT: Final[Message] = {1: ("kind", _TEXT), 2: ("apiGroup", _TEXT), 3: ("name", _TEXT), 4: ("namespace", _TEXT)}
_ROLE: Final[Message] = {1: ("metadata", _METADATA), 2: ("rules", Many(_RULE))}
_BINDING: Final[Message] = {
    1: ("metadata", _METADATA),
    2: ("subjects", Many(_SUBJECT)),
    3: ("roleRef", {1: ("apiGroup", _TEXT), 2: ("kind", _TEXT), 3: ("name", _TEXT)}),
}
_DELETE_OPTIONS: Final[Message] = {
    1: ("gracePeriodSeconds", Scalar.OPTIONAL_COUNT),
    2: ("preconditions", {1: ("uid", Scalar.OPTIONAL_TEXT), 2: ("resourceVersion", Scalar.OPTIONAL_TEXT)}),
    3: ("orphanDependents", Scalar.OPTIONAL_FLAG),
    4: ("propagationPolicy", Scalar.OPTIONAL_TEXT),
    5: ("dryRun", _TEXTS),
}
_BOUND: Final[Message] = {1: ("kind", _TEXT), 2: ("apiVersion", _TEXT), 3: ("name", _TEXT), 4: ("uid", _TEXT)}
_TOKEN_SPEC: Final[Message] = {
    1: ("audiences", _TEXTS),
    3: ("boundObjectRef", _BOUND),
    4: ("expirationSeconds", Scalar.OPTIONAL_COUNT),
}
# Reviews are answered without looking at what is asked.
_REVIEW: Final[Message] = {1: ("metadata", _METADATA), 2: ("spec", _IGNORED), 3: ("status", _IGNORED)}


def _with_spec(spec: Message) -> Message:
    return {1: ("metadata", _METADATA), 2: ("spec", spec), 3: ("status", _IGNORED)}


MESSAGES: Final[Mapping[str, Message]] = {
    "Namespace": _with_spec({1: ("finalizers", _TEXTS)}),
    "ConfigMap": {
        1: ("metadata", _METADATA),
        2: ("data", _LABELS),
        3: ("binaryData", Entries(Scalar.BYTES)),
        4: ("immutable", Scalar.OPTIONAL_FLAG),
    },
    "Secret": {
        1: ("metadata", _METADATA),
        2: ("data", Entries(Scalar.BYTES)),
        3: ("type", _TEXT),
        4: ("stringData", _LABELS),
        5: ("immutable", Scalar.OPTIONAL_FLAG),
    },
    "ServiceAccount": {
        1: ("metadata", _METADATA),
        3: ("imagePullSecrets", Many(_NAMED)),
        4: ("automountServiceAccountToken", Scalar.OPTIONAL_FLAG),
    },
    "Service": _with_spec(_SERVICE_SPEC),
    "Pod": _with_spec(_POD_SPEC),
    "Deployment": _with_spec(_DEPLOYMENT_SPEC),
    "Job": _with_spec(_JOB_SPEC),
    "Role": _ROLE,
    "ClusterRole": _ROLE,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "TokenRequest": {1: ("metadata", _METADATA), 2: ("spec", _TOKEN_SPEC), 3: ("status", _IGNORED)},
    "Eviction": {1: ("metadata", _METADATA), 2: ("deleteOptions", _DELETE_OPTIONS)},
    "DeleteOptions": _DELETE_OPTIONS,
    "SelfSubjectAccessReview": _REVIEW,
    "SelfSubjectRulesReview": _REVIEW,
    "SelfSubjectReview": _REVIEW,
    "SubjectAccessReview": _REVIEW,
    "LocalSubjectAccessReview": _REVIEW,
}


def object_from_protobuf(data: bytes) -> dict[str, Any]:
    """The object of a body. Raises ApiError 400 when malformed, 415 for what is not described here."""
    if not data.startswith(MAGIC):
        raise ApiError(400, "BadRequest", "the body does not begin as Kubernetes protobuf does")
    try:
        envelope = dict(_fields(data[len(MAGIC) :]))
        names = dict(_fields(_octets(envelope.get(1, b""))))
        api_version, kind = _octets(names.get(1, b"")).decode(), _octets(names.get(2, b"")).decode()
        message = MESSAGES.get(kind)
        if message is None:
            raise _unsupported(f"kind {kind}")
        obj = _decoded(message, _octets(envelope.get(2, b"")), kind)
    except (IndexError, ValueError, struct.error) as error:
        raise ApiError(400, "BadRequest", f"the protobuf body is malformed: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **obj}


def _decoded(message: Message, data: bytes, where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in message:
            raise _unsupported(f"field {number} of {where}")
        name, type_ = message[number]
        path = f"{where}.{name}"
        if isinstance(type_, Many):
            item = _value(type_.of, value, path)
            result.setdefault(name, []).append("" if item is None else item)
        elif isinstance(type_, Entries):
            entry = dict(_fields(_octets(value)))
            key = _octets(entry.get(1, b"")).decode()
            item = _value(type_.of, entry.get(2, b""), path)
            result.setdefault(name, {})[key] = "" if item is None else item
        elif (item := _value(type_, value, path)) is not None:
            result[name] = item
    return result


def _value(type_: Scalar | Message, value: int | bytes, path: str) -> Any:
    """None for Go's zero value of a plain field, which JSON leaves out."""
    if not isinstance(type_, Scalar):
        return _decoded(type_, _octets(value), path) or None
    match type_:
        case Scalar.TEXT:
            return _octets(value).decode() or None
        case Scalar.OPTIONAL_TEXT:
            return _octets(value).decode()
        case Scalar.COUNT:
            return _signed(value) or None
        case Scalar.OPTIONAL_COUNT:
            return _signed(value)
        case Scalar.FLAG:
            return bool(value) or None
        case Scalar.OPTIONAL_FLAG:
            return bool(value)
        case Scalar.BYTES:
            return base64.b64encode(_octets(value)).decode()
        case Scalar.TIME:
            seconds = _signed(dict(_fields(_octets(value))).get(1, 0))
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
        case Scalar.INT_OR_STRING:
            parts = dict(_fields(_octets(value)))
            if parts.get(1, 0) == 1:
                return _octets(parts.get(3, b"")).decode() or None
            return _signed(parts.get(2, 0)) or None
        case Scalar.IGNORED:
            return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        match wire_type:
            case 0:
                value, position = _varint(data, position)
                yield number, value
            case 1:
                yield number, struct.unpack_from("<Q", data, position)[0]
                position += 8
            case 2:
                length, position = _varint(data, position)
                if position + length > len(data):
                    raise ValueError("a field is longer than the body")
                yield number, data[position : position + length]
                position += length
            case 5:
                yield number, struct.unpack_from("<I", data, position)[0]
                position += 4
            case _:
                raise ValueError(f"unknown wire type {wire_type}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _octets(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("expected bytes, found a number")
    return value


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("expected a number, found bytes")
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsupported(what: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", f"{what} is not understood in protobuf form; send it as JSON or YAML")
