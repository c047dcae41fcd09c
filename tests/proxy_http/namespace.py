"""A network namespace for the calling thread, in which two addresses are intercepted as a pod's traffic is.

The kernel gives a namespace to a thread, and new threads inherit it: an engine, a server or a client that is made
inside runs inside. A connection from CLIENT, or of a program in INBOUND_GROUP, arrives at the inbound listener; one
from APP, or of a program in OUTBOUND_GROUP, at the outbound listener. The proxy's own come from POD and pass.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

POD, CLIENT, APP = "10.99.0.1", "10.99.0.2", "10.99.0.3"
POD6, CLIENT6, APP6 = "fd99::1", "fd99::2", "fd99::3"
INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT = 4143, 4140, 4191
INBOUND_GROUP, OUTBOUND_GROUP = 64143, 64140
"""For programs that cannot be told what address to dial from."""
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def intercepted_namespace() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _checked(_libc.unshare(CLONE_NEWNET))
        try:
            _set_up()
            yield
        finally:
            _checked(_libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


def _set_up() -> None:
    _run("ip", "link", "set", "lo", "up")
    for address in (POD, CLIENT, APP):
        _run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    for address in (POD6, CLIENT6, APP6):
        _run("ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
    for tables, pod, client, app in (("iptables", POD, CLIENT, APP), ("ip6tables", POD6, CLIENT6, APP6)):
        redirect = (tables, "-w", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports")
        not_own = ("-m", "multiport", "!", "--dports", f"{INBOUND_PORT},{ADMIN_PORT}")
        for dialled in (("-s", client), ("-m", "owner", "--gid-owner", str(INBOUND_GROUP))):
            _run(*redirect, str(INBOUND_PORT), "-d", pod, *dialled, *not_own)
        for dialled in (("-s", app), ("-m", "owner", "--gid-owner", str(OUTBOUND_GROUP))):
            _run(*redirect, str(OUTBOUND_PORT), *dialled)
