"""The small languages of annotations and Helm values: booleans, durations, quantities, ports, networks.

Each parser raises ValueError whose text says what was expected.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_SCALE: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
MAX_PORT: Final = 65535


def boolean(text: str) -> bool:
    """As Go's strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false")


def enabled(text: str) -> bool:
    """`enabled` or `disabled`."""
    if text not in {"enabled", "disabled"}:
        raise ValueError("expected enabled or disabled")
    return text == "enabled"


def integer(text: str) -> int:
    """A decimal integer, sign allowed."""
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ValueError("expected an integer")
    return int(text)


def unsigned(text: str) -> int:
    """A decimal integer, not negative."""
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError("expected an integer of 0 or more")
    return int(text)


def port(text: str) -> int:
    """One TCP port."""
    number = unsigned(text)
    if not 1 <= number <= MAX_PORT:
        raise ValueError("expected a port, 1 to 65535")
    return number


def duration_ns(text: str) -> int:
    """A Go duration such as 10s or 1m30s, in nanoseconds."""
    if text in {"0", "+0", "-0"}:
        return 0
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    parts = _DURATION_PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise ValueError("expected a duration such as 10s or 1m30s")
    return sign * int(sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in parts))


def duration(text: str) -> str:
    """A Go duration, kept as written."""
    duration_ns(text)
    return text


def milliseconds(text: str) -> str:
    """A Go duration, rewritten as whole milliseconds."""
    return f"{duration_ns(text) // 10**6}ms"


def seconds(text: str) -> str:
    """A Go duration, rewritten as whole seconds."""
    return f"{duration_ns(text) // 10**9}s"


def quantity(text: str) -> str:
    """A Kubernetes quantity, kept as written."""
    _amount(text)
    return text


def whole_cores(text: str) -> int:
    """A CPU quantity rounded up to whole cores."""
    return math.ceil(_amount(text))


def _amount(text: str) -> Decimal:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("expected a quantity such as 100m, 0.5 or 64Mi")
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SCALE.get(suffix or "", Decimal(1))


def ratio(text: str) -> float:
    """A share, above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ValueError("expected a number above 0 and below 1")
    return value


def networks(text: str) -> str:
    """A comma-separated list of CIDRs, kept as written. A bare address counts as one."""
    for item in text.split(","):
        if item.strip():
            try:
                ipaddress.ip_network(item.strip(), strict=False)
            except ValueError as error:
                raise ValueError(f"expected a comma-separated list of CIDRs: {error}") from error
    return text


@dataclass(frozen=True, slots=True)
class PortRange:
    """Inclusive at both ends."""

    first: int
    last: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def port_range(text: str) -> PortRange:
    """`80` or `80-90`."""
    first, dash, last = text.partition("-")
    low = port(first.strip())
    high = port(last.strip()) if dash else low
    if high < low:
        raise ValueError("expected a range whose end is not below its start")
    return PortRange(low, high)


def port_items(text: str) -> tuple[str, ...]:
    """The items of a port list: spaces trimmed, empty ones (a trailing comma) left out."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def port_list(text: str) -> str:
    """Ports and inclusive ranges, separated by commas; rewritten without spaces."""
    return ",".join(str(port_range(item)) for item in port_items(text))
