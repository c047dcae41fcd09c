"""The least that turns one set of endpoints into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft_policy.core.endpoints import Address, Endpoint


@dataclass(frozen=True, slots=True)
class EndpointDiff:
    """add: new addresses and those whose description changed. remove: gone ones, sorted."""

    add: Mapping[Address, Endpoint]
    remove: tuple[Address, ...]

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def diff_endpoints(old: Mapping[Address, Endpoint], new: Mapping[Address, Endpoint]) -> EndpointDiff:
    """What to send to somebody who has old and should have new."""
    return EndpointDiff(
        add={address: endpoint for address, endpoint in new.items() if old.get(address) != endpoint},
        remove=tuple(sorted(address for address in old if address not in new)),
    )


def apply_diff(have: Mapping[Address, Endpoint], diff: EndpointDiff) -> dict[Address, Endpoint]:
    """What a client has after a diff."""
    gone = set(diff.remove)
    return {address: endpoint for address, endpoint in have.items() if address not in gone} | dict(diff.add)
