"""A rotation, stage by stage: what it does, what it waits for, whom it names, and the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from weft_identity.core.inventory import Certificate, LeafRecord, ProxyRecord
from weft_identity.core.proxies import MeshedPod, anchor_ids
from weft_identity.core.rotation import MOUNT_LAG, Live, Rotation, Side, Stage, both_bundles, next_step
from weft_identity.testing.pki import NOW, make_ca, pem

OLD_PEM, NEW_PEM = (pem(make_ca(name)[0]).decode() for name in ("old", "new"))
OLD_IDS, NEW_IDS = anchor_ids(OLD_PEM), anchor_ids(NEW_PEM)
OLD, NEW = Side("old", OLD_PEM, "old-issuer"), Side("new", NEW_PEM, "new-issuer")
BEGUN = Rotation(Stage.PUBLISH, OLD, NEW, NOW)
LIFE = timedelta(hours=1)


def pod(name: str, given: frozenset[str] | None = OLD_IDS, started: datetime | None = NOW - LIFE) -> MeshedPod:
    return MeshedPod(f"uid-{name}", "shop", name, ("10.0.0.1",), given, started)


def report(name: str, anchors: frozenset[str], issuer_id: str = "old-issuer", serial: str = "1") -> Certificate:
    told = ProxyRecord(
        name, "shop", name, f"uid-{name}", tuple(sorted(anchors)), serial, issuer_id, NOW + LIFE, "weft-proxy/1", NOW
    )
    return Certificate(None, told)


def leaf(name: str, issuer_id: str, not_after: datetime = NOW + LIFE) -> Certificate:
    record = LeafRecord(name, "shop", name, f"uid-{name}", "1", issuer_id, "", "", NOW - LIFE, not_after, NOW - LIFE)
    return Certificate(record, None)


def mesh(*pods: MeshedPod, **certificates: Certificate) -> Live:
    return Live(pods, {f"uid-{name}": found for name, found in certificates.items()}, LIFE)


def at(stage: Stage, **changes: object) -> Rotation:
    return replace(BEGUN, stage=stage, **changes)  # type: ignore[arg-type]  # field by field, for brevity


def test_both_anchors_are_published_first() -> None:
    step = next_step(BEGUN, mesh(), NOW)
    assert anchor_ids(step.bundle_pem or "") == OLD_IDS | NEW_IDS
    assert step.issuer is None
    assert step.rotation.stage is Stage.TRUST


def test_issuer_of_the_same_anchor_leaves_the_bundle_as_it_is() -> None:
    same = replace(BEGUN, target=Side("new", OLD_PEM, "new-issuer"))
    assert both_bundles(same).strip() == OLD_PEM.strip()


@pytest.mark.parametrize(
    ("one", "certificate", "named"),
    [
        (pod("web"), report("web", OLD_IDS | NEW_IDS), ""),
        (pod("web"), report("web", OLD_IDS), "1 of 2 anchors missing"),
        # Linkerd's proxy keeps the anchors in its environment.
        (pod("web"), None, "restart it"),
        (pod("web", given=OLD_IDS | NEW_IDS), None, ""),
        # One that reads the ConfigMap as it starts.
        (pod("web", given=None), None, "started before this rotation"),
        (pod("web", given=None, started=NOW + timedelta(seconds=1)), None, ""),
    ],
)
def test_issuer_is_switched_only_when_every_live_proxy_trusts_both(
    one: MeshedPod, certificate: Certificate | None, named: str
) -> None:
    live = mesh(one, **({"web": certificate} if certificate else {}))
    step = next_step(at(Stage.TRUST), live, NOW)
    assert (step.bundle_pem, step.issuer) == (None, None)
    if not named:
        assert step.rotation.stage is Stage.SWITCH
        return
    assert step.rotation.stage is Stage.TRUST
    (holder,) = step.rotation.holders
    assert (holder.namespace, holder.pod) == ("shop", "web")
    assert named in holder.why


def test_an_expired_issuer_is_replaced_without_asking_proxies_that_cannot_answer() -> None:
    live = replace(mesh(pod("web", given=None), pod("shop")), issuer_is_over=True)
    assert next_step(at(Stage.TRUST), live, NOW).rotation.stage is Stage.SWITCH


def test_switch_installs_the_new_side_and_remembers_when() -> None:
    step = next_step(at(Stage.SWITCH), mesh(), NOW)
    assert step.issuer == "new"
    assert (step.rotation.stage, step.rotation.switched_at) == (Stage.RENEW, NOW)


@pytest.mark.parametrize(
    ("certificate", "after", "named"),
    [
        (report("web", NEW_IDS, "new-issuer"), timedelta(), ""),
        (report("web", NEW_IDS, "old-issuer"), timedelta(), "leaf of issuer old-issuer"),
        (leaf("web", "old-issuer"), timedelta(), "leaf of issuer old-issuer"),
        (leaf("web", "old-issuer"), LIFE, ""),
        (leaf("web", "new-issuer"), timedelta(), ""),
        # Nobody knows its leaf: time decides.
        (None, timedelta(), "not known"),
        (None, LIFE + MOUNT_LAG, ""),
    ],
)
def test_old_anchor_is_dropped_only_when_no_live_leaf_is_of_the_old_issuer(
    certificate: Certificate | None, after: timedelta, named: str
) -> None:
    live = mesh(pod("web"), **({"web": certificate} if certificate else {}))
    step = next_step(at(Stage.RENEW, switched_at=NOW), live, NOW + after)
    assert step.rotation.stage is (Stage.RENEW if named else Stage.DROP)
    assert [named in holder.why for holder in step.rotation.holders] == ([True] if named else [])


def test_report_of_another_leaf_than_the_record_is_believed() -> None:
    recorded, told = leaf("web", "old-issuer"), report("web", NEW_IDS, "new-issuer", serial="2")
    live = mesh(pod("web"), web=Certificate(recorded.leaf, told.report))
    assert next_step(at(Stage.RENEW, switched_at=NOW), live, NOW).rotation.stage is Stage.DROP


def test_end_leaves_only_the_new_anchor() -> None:
    step = next_step(at(Stage.DROP), mesh(), NOW)
    assert step.bundle_pem is not None
    assert anchor_ids(step.bundle_pem) == NEW_IDS
    assert step.rotation.stage is Stage.DONE
    assert next_step(step.rotation, mesh(), NOW).rotation is step.rotation


@pytest.mark.parametrize("stage", [Stage.PUBLISH, Stage.TRUST, Stage.SWITCH, Stage.RENEW])
def test_abort_goes_back_through_the_same_gates(stage: Stage) -> None:
    rotation, live = at(stage, abort_requested=True, switched_at=NOW), mesh(pod("web"), web=report("web", OLD_IDS))
    done: list[str] = []
    bundle = ""
    while rotation.stage is not Stage.DONE:
        step = next_step(rotation, live, NOW)
        done += [step.issuer] if step.issuer else []
        bundle = step.bundle_pem or bundle
        assert step.rotation != rotation
        rotation = step.rotation
    assert rotation.aborted
    assert done == ["old"]
    assert anchor_ids(bundle) == OLD_IDS


def test_abort_waits_for_leaves_of_the_new_issuer() -> None:
    back = next_step(at(Stage.RENEW, abort_requested=True, switched_at=NOW), mesh(), NOW).rotation
    live = mesh(pod("web"), web=report("web", OLD_IDS | NEW_IDS, "new-issuer"))
    waiting = next_step(next_step(back, live, NOW).rotation, live, NOW).rotation
    assert waiting.stage is Stage.RENEW
    assert [holder.pod for holder in waiting.holders] == ["web"]


def test_abort_is_too_late_once_anchors_are_dropped() -> None:
    step = next_step(at(Stage.DROP, abort_requested=True), mesh(), NOW)
    assert (step.rotation.stage, step.rotation.aborted) == (Stage.DONE, False)
