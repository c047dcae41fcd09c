"""Who may hold a lease, judged by what is seen of it."""

from __future__ import annotations

from datetime import UTC, datetime

from weft_common.kube.lease import Sighting, claimed, may_claim

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_fresh_lease_is_claimed_and_counts_changes_of_hand() -> None:
    first = claimed({"metadata": {"name": "x"}}, "a", 30, NOW)
    assert first["spec"]["holderIdentity"] == "a"
    assert first["spec"]["leaseTransitions"] == 0
    renewed = claimed(first, "a", 30, datetime(2026, 1, 2, tzinfo=UTC))
    assert renewed["spec"]["acquireTime"] == first["spec"]["acquireTime"]
    assert renewed["spec"]["renewTime"] > first["spec"]["renewTime"]
    assert claimed(renewed, "b", 30, NOW)["spec"]["leaseTransitions"] == 1


def test_another_holder_must_be_silent_for_its_whole_duration_as_we_see_it() -> None:
    lease = claimed({}, "a", 30, NOW)
    seen = Sighting()
    assert may_claim(lease, "a", Sighting(), 0)
    assert not may_claim(lease, "b", seen, 100)
    assert not may_claim(lease, "b", seen, 129)
    renewed = claimed(lease, "a", 30, datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC))
    assert not may_claim(renewed, "b", seen, 135)
    assert not may_claim(renewed, "b", seen, 164)
    assert may_claim(renewed, "b", seen, 165)


def test_a_released_lease_is_free_at_once() -> None:
    lease = claimed({}, "a", 30, NOW)
    lease["spec"]["holderIdentity"] = ""
    assert may_claim(lease, "b", Sighting(), 0)
