"""Server-side apply: merging, removing, conflicts and who owns what."""

from __future__ import annotations

from typing import Any

import pytest
from weft_local.apiserver.apply import note_update, owners_of, server_side_apply
from weft_local.apiserver.errors import ApiError
from weft_local.apiserver.fieldsets import from_fields_v1, leaves, to_fields_v1

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"


def deployment(replicas: int | None = 2, **containers: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "template": {"spec": {"containers": [{"name": n, "image": image} for n, image in containers.items()]}}
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "x"}, "spec": spec}


def applied(
    live: dict[str, Any] | None, config: dict[str, Any], manager: str = "a", force: bool = False
) -> dict[str, Any]:
    return server_side_apply(live, config, manager, force, NOW)


def test_first_apply_keeps_the_configuration_and_records_its_owner() -> None:
    result = applied(None, deployment(app="one"))
    assert result["spec"]["replicas"] == 2
    (owner,) = owners_of(result)
    assert owner.manager == "a"
    assert ("f:spec", "f:replicas") in owner.paths


def test_applying_the_same_again_returns_the_same_object() -> None:
    once = applied(None, deployment(app="one"))
    assert server_side_apply(once, deployment(app="one"), "a", False, LATER) is once


def test_another_manager_with_another_value_conflicts_and_is_named() -> None:
    live = applied(None, deployment(app="one"))
    with pytest.raises(ApiError) as refused:
        applied(live, deployment(app="two"), "b")
    assert refused.value.status == 409
    (cause,) = refused.value.causes
    assert cause.field == '.spec.template.spec.containers[name="app"].image'
    assert cause.reason == "FieldManagerConflict"
    assert 'conflict with "a" using apps/v1' in refused.value.message


def test_the_same_value_is_shared_and_survives_one_owner_leaving() -> None:
    live = applied(applied(None, deployment(app="one")), deployment(app="one"), "b")
    left = applied(live, deployment(None, app="one"), "a")
    assert left["spec"]["replicas"] == 2


def test_force_takes_the_field_from_its_owner() -> None:
    live = applied(applied(None, deployment(app="one")), deployment(None, app="two"), "b", force=True)
    owners = {owner.manager: owner.paths for owner in owners_of(live)}
    image = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"app"}', "f:image")
    assert image in owners["b"]
    assert image not in owners["a"]


def test_a_field_no_longer_mentioned_is_removed() -> None:
    live = applied(None, deployment(app="one"))
    assert "replicas" not in applied(live, deployment(None, app="one"))["spec"]


def test_a_list_element_no_longer_mentioned_is_removed_and_a_foreign_one_stays() -> None:
    live = applied(None, deployment(app="one", side="car"))
    injected = {**live, "spec": deployment(2, app="one", side="car", proxy="p")["spec"]}
    containers = applied(injected, deployment(app="one"))["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["app", "proxy"]


def test_the_live_object_is_never_changed() -> None:
    live = applied(None, deployment(app="one", side="car"))
    before = repr(live)
    applied(live, deployment(None, app="one"))
    assert repr(live) == before


def test_an_update_of_an_applied_field_moves_it_to_the_updater() -> None:
    live = applied(None, deployment(app="one"))
    scaled = note_update(live, {**live, "spec": {**live["spec"], "replicas": 5}}, "kubectl-scale", LATER)
    with pytest.raises(ApiError, match="kubectl-scale"):
        applied(scaled, deployment(3, app="one"))
    assert applied(scaled, deployment(None, app="one"))["spec"]["replicas"] == 5


def test_an_update_without_appliers_records_nothing() -> None:
    plain = deployment(app="one")
    assert "managedFields" not in note_update(plain, deployment(3, app="one"), "m", NOW)["metadata"]


def test_ports_are_keyed_with_their_default_protocol() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    live = {**service, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}}
    merged = applied(live, {**service, "spec": {"ports": [{"port": 80, "name": "http"}]}})
    assert merged["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80, "name": "http"}]


def test_null_says_nothing() -> None:
    config = deployment(app="one")
    config["metadata"]["creationTimestamp"] = None
    assert "creationTimestamp" not in applied(None, config)["metadata"]


def test_field_sets_survive_their_written_form() -> None:
    paths = set(leaves(deployment(app="one", side="car")))
    assert from_fields_v1(to_fields_v1(paths)) == paths
