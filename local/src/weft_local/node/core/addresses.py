"""Pod addresses: handed out in order, reused as late as possible, so that a stale entry somewhere hits nobody."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network


class NoAddressLeft(Exception):
    """The pod range is used up. Use a larger pod CIDR."""


class AddressPool:
    """reserved: how many addresses at the start of the range are not for pods."""

    def __init__(self, cidr: IPv4Network, reserved: int) -> None:
        self._cidr = cidr
        self._first = reserved
        self._next = reserved
        self._taken: set[int] = set()

    def take(self) -> IPv4Address:
        """A free address. Raises NoAddressLeft."""
        # The last address of the range is its broadcast address.
        size = self._cidr.num_addresses - 1 - self._first
        if len(self._taken) >= size:
            raise NoAddressLeft(f"all {size} addresses of {self._cidr} are taken")
        while self._next in self._taken:
            self._advance()
        taken = self._next
        self._taken.add(taken)
        self._advance()
        return self._cidr[taken]

    def give_back(self, address: IPv4Address) -> None:
        """It may be handed out again, after all others."""
        self._taken.discard(int(address) - int(self._cidr.network_address))

    def _advance(self) -> None:
        self._next += 1
        if self._next >= self._cidr.num_addresses - 1:
            self._next = self._first
