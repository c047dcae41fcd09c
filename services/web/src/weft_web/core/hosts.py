"""Which Host headers the UI answers to.

Protects against DNS rebinding, where a foreign page in the same browser reaches a local server by a name of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

# Names a port-forward, weft local and the Service itself use.
OWN_NAMES: Final = frozenset({"localhost", "web", "web.linkerd-viz", "web.linkerd-viz.svc"})
OWN_SUFFIX_OF: Final = "web.linkerd-viz.svc."


def is_own_host(header: str, more: Iterable[str] = ()) -> bool:
    """Whether a Host header names this server. IP literals always do: a rebinding attack needs a name."""
    host = header.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        host = host.rstrip(".")
        return host in OWN_NAMES or host.startswith(OWN_SUFFIX_OF) or host in set(more)
    return True
