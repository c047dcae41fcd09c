"""Facts about API objects that several controllers ask for: selectors, readiness, ownership, hashes, conditions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, Resource, key_of

from weft_local.controllers.core.world import Object

# No vowels and no look-alikes, so that a hash never spells a word; the alphabet Kubernetes uses for its names.
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_HASH_LENGTH: Final = 10


def owned_by(resource: Resource, owner: Object) -> list[Object]:
    """ownerReferences naming owner as the controller."""
    return [
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def content_hash(value: object) -> str:
    """A short name for a JSON value, the same in every process."""
    number = int.from_bytes(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:8], "big")
    letters = []
    for _ in range(_HASH_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def template_hash(template: Object) -> str:
    """A short name for what a pod template makes. Absent and empty metadata, absent and null fields are the same."""
    metadata = template.get("metadata") or {}
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return content_hash([kept, _without_nulls(template.get("spec"))])


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector selects labels. A selector that is absent selects nothing, an empty one everything."""
    if selector is None:
        return False
    have = labels or {}
    if any(have.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression_holds(term, have) for term in selector.get("matchExpressions") or ())


def _expression_holds(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    name, values = term["key"], term.get("values") or []
    match term["operator"]:
        case "In":
            return labels.get(name) in values
        case "NotIn":
            return labels.get(name) not in values
        case "Exists":
            return name in labels
        case "DoesNotExist":
            return name not in labels
        case _:
            return False


def is_terminating(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_finished(pod: Object) -> bool:
    """Whether a pod has ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_terminating(pod) and not is_finished(pod)


def condition(obj: Object, kind: str) -> Mapping[str, Any] | None:
    """The condition of a type."""
    found: Iterable[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), None)


def is_ready(pod: Object) -> bool:
    ready = condition(pod, "Ready")
    return ready is not None and ready.get("status") == "True"


def available_in_s(pod: Object, min_ready_s: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available, 0 when it does already; None when it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    if min_ready_s == 0:
        return 0.0
    since = time_from_text(ready.get("lastTransitionTime")) or now
    return max(0.0, min_ready_s - (now - since).total_seconds())


def pod_from_template(template: Object, namespace: str, owner: Resource, owner_object: Object) -> Object:
    """A new pod of a workload; the caller adds its name."""
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": owned_by(owner, owner_object),
        },
        "spec": dict(template.get("spec") or {}),
    }


def with_condition(
    conditions: Iterable[Mapping[str, Any]], kind: str, holds: bool, reason: str, message: str, now: datetime
) -> list[Object]:
    """Conditions with one set. Its times move only when the status, respectively anything, changes."""
    kept = [dict(one) for one in conditions]
    before = next((one for one in kept if one["type"] == kind), None)
    status = "True" if holds else "False"
    if before is not None and (before["status"], before.get("reason")) == (status, reason):
        if before.get("message") == message:
            return kept
        before.update(message=message, lastUpdateTime=text_from_time(now))
        return kept
    after = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": text_from_time(now),
        "lastTransitionTime": text_from_time(now),
    }
    if before is None:
        return [*kept, after]
    if before["status"] == status:
        after["lastTransitionTime"] = before.get("lastTransitionTime", after["lastTransitionTime"])
    return [after if one is before else one for one in kept]


def changed(obj: Object, status: Mapping[str, Any]) -> bool:
    """Whether a status differs from what the object says; a None stands for an absent field."""
    have = obj.get("status") or {}
    return any(have.get(name) != value for name, value in status.items())


def count_or_percent(value: int | str | None, default: str, total: int, *, round_up: bool) -> int:
    """An IntOrString such as maxSurge, resolved against the number of replicas."""
    text = str(default if value is None else value)
    if not text.endswith("%"):
        return int(text)
    scaled = int(text[:-1]) * total
    return -(-scaled // 100) if round_up else scaled // 100


def text_from_time(when: datetime) -> str:
    """RFC 3339 with whole seconds, as the API writes times."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_from_text(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def ref(obj: Object) -> tuple[ObjectKey, str]:
    """What a Delete needs: key and uid."""
    return key_of(obj), obj["metadata"]["uid"]
