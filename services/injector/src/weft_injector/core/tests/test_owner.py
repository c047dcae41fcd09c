"""From a pod to the workload people know."""

from __future__ import annotations

from typing import Any

import pytest

from weft_injector.core.owner import Owner, direct_owner, is_followed, root_owner
from weft_injector.core.pod import OwnerReference, pod_from_json


def references(*pairs: tuple[str, str]) -> tuple[OwnerReference, ...]:
    return tuple(OwnerReference("x/v1", kind, name) for kind, name in pairs)


def a_pod(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "ownerReferences": [{"kind": k, "name": n, "apiVersion": "x/v1"} for k, n in pairs]},
        "spec": {"containers": []},
    }


def test_pod_without_or_with_several_owners_stands_for_itself() -> None:
    assert direct_owner(pod_from_json(a_pod())) == Owner("pod", "p")
    assert direct_owner(pod_from_json(a_pod(("ReplicaSet", "a"), ("ReplicaSet", "b")))) == Owner("pod", "p")


@pytest.mark.parametrize(
    ("owner", "above", "kind", "name"),
    [
        ("ReplicaSet", (("Deployment", "web"),), "deployment", "web"),
        ("ReplicaSet", (("Rollout", "web"),), "replicaset", "one"),
        ("ReplicaSet", (), "replicaset", "one"),
        ("Job", (("CronJob", "nightly"),), "cronjob", "nightly"),
        ("Job", (("CronJob", "a"), ("CronJob", "b")), "job", "one"),
    ],
)
def test_replica_sets_and_jobs_are_followed_one_level(
    owner: str, above: tuple[tuple[str, str], ...], kind: str, name: str
) -> None:
    direct = direct_owner(pod_from_json(a_pod((owner, "one"))))
    assert is_followed(direct)
    found = root_owner(direct, references(*above))
    assert (found.kind, found.name) == (kind, name)


def test_custom_controllers_are_owners_without_a_label() -> None:
    owner = direct_owner(pod_from_json(a_pod(("Workflow", "w"))))
    assert not is_followed(owner)
    assert owner.label() is None
    assert Owner("statefulset", "db").label() == ("linkerd.io/proxy-statefulset", "db")
