from __future__ import annotations

from typing import Any

from weft_common.kube.resource import PODS, ObjectKey

from weft_local.controllers.core.objects import content_hash, count_or_percent, matches
from weft_local.controllers.core.world import World

KEY = ObjectKey("shop", "a")
OWNER: dict[str, Any] = {"metadata": {"name": "web", "namespace": "shop", "uid": "owner"}}


def pod(version: int, uid: str = "u1", *, owned: bool = True) -> dict[str, Any]:
    owners = [{"uid": "owner", "controller": True, "kind": "ReplicaSet", "name": "web"}] if owned else []
    metadata = {
        "name": "a",
        "namespace": "shop",
        "uid": uid,
        "resourceVersion": str(version),
        "ownerReferences": owners,
    }
    return {"metadata": metadata}


def test_an_older_version_says_nothing_new() -> None:
    world = World()
    assert world.apply(PODS, pod(5))
    assert not world.apply(PODS, pod(4))
    assert world.get(PODS, KEY) == pod(5)


def test_event_overtaken_by_a_deletion_does_not_bring_the_object_back() -> None:
    world = World()
    world.apply(PODS, pod(5))
    assert world.delete(PODS, KEY, "u1") is not None
    assert not world.apply(PODS, pod(6))
    assert world.get(PODS, KEY) is None
    assert world.apply(PODS, pod(7, "u2"))


def test_deleting_by_uid_spares_a_namesake() -> None:
    world = World()
    world.apply(PODS, pod(5, "u2"))
    assert world.delete(PODS, KEY, "u1") is None
    assert world.get(PODS, KEY) is not None


def test_children_follow_ownership_and_relists() -> None:
    world = World()
    world.apply(PODS, pod(5))
    assert len(world.children(PODS, OWNER)) == 1
    world.apply(PODS, pod(6, owned=False))
    assert not world.children(PODS, OWNER)
    world.reset(PODS, {KEY: pod(7, "u3")})
    assert len(world.children(PODS, OWNER)) == 1
    world.reset(PODS, {})
    assert not world.children(PODS, OWNER)


def test_selectors_follow_the_kubernetes_grammar() -> None:
    labels = {"app": "web", "tier": "front"}
    assert matches({"matchLabels": {"app": "web"}}, labels)
    assert matches({}, labels)
    assert not matches(None, labels)
    for operator, values, expected in (
        ("In", ["front", "back"], True),
        ("NotIn", ["front"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ):
        term = {"key": "tier", "operator": operator, "values": values}
        assert matches({"matchExpressions": [term]}, labels) is expected


def test_percentages_round_as_asked() -> None:
    assert count_or_percent(None, "25%", 10, round_up=True) == 3
    assert count_or_percent(None, "25%", 10, round_up=False) == 2
    assert count_or_percent(4, "25%", 10, round_up=False) == 4


def test_hash_ignores_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})
