"""Which iptables to use: what was asked for if it exists, else nft, plain, legacy in this order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from weft_proxy.init.core.plan import Family

FALLBACKS = ("iptables-nft", "iptables", "iptables-legacy")
MODES = {"nft": "iptables-nft", "plain": "iptables", "legacy": "iptables-legacy"}


@dataclass(frozen=True, slots=True)
class Binaries:
    apply: str
    save: str


class NoIptables(Exception):
    """No usable pair of binaries."""


def choose(asked: str, asked_save: str | None, family: Family, exists: Callable[[str], bool]) -> Binaries:
    """asked: name or path of the IPv4 binary. asked_save: the same for `-save`; None derives it. Raises NoIptables."""
    wanted = Binaries(asked, asked_save or f"{asked}-save")
    candidates = [wanted, *(Binaries(name, f"{name}-save") for name in FALLBACKS)]
    if family is Family.V6:
        candidates = [Binaries(_for_v6(pair.apply), _for_v6(pair.save)) for pair in candidates]
    for pair in candidates:
        if exists(pair.apply) and exists(pair.save):
            return pair
    raise NoIptables("no iptables found; tried " + ", ".join(dict.fromkeys(pair.apply for pair in candidates)))


def _for_v6(binary: str) -> str:
    path = PurePath(binary)
    return str(path.with_name(path.name.replace("iptables", "ip6tables", 1)))
