"""Links, routes and network namespaces of pods. Owns what `ip link`, `ip route` and `ip netns` would show.

One point-to-point veth per pod: inside, eth0 has a /32 and a default route to a link-local gateway that needs no
subnet; outside, one host route leads to the pod. Every operation runs on one worker thread, because entering a network
namespace is a property of the thread; the thread always returns to the host's.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # the library ships no types
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]  # as above

from weft_local.node.settings import NodeSettings

T = TypeVar("T")

NETNS_DIR: Final = Path("/run/netns")
# A file in the state directory: this cluster made NETNS_DIR a mount of its own.
NETNS_DIR_SHARED: Final = "netns_dir.shared"
LINK_LOCAL_GATEWAY: Final = "169.254.1.1"
HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"
IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
RTNH_F_ONLINK: Final = 4
NUD_PERMANENT: Final = 0x80

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 4096, 16384, 1 << 20, 2
_libc = ctypes.CDLL(None, use_errno=True)


class PodNetwork:
    """The pod network of one cluster. Close it to end its worker thread."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pod-network")

    def close(self) -> None:
        """End the worker thread; links stay."""
        self._executor.shutdown(wait=True)

    async def setup_host(self) -> None:
        """Gateway address and forwarding. Idempotent."""
        await self._run(lambda: _setup_host(self._settings))

    async def add_pod(self, pod_uid: str, pod_ip: IPv4Address) -> Path:
        """Namespace, link and routes of a pod, replacing leftovers; the result is the namespace's path."""
        return await self._run(lambda: _add_pod(self._settings, pod_uid, pod_ip))

    async def remove_pod(self, pod_uid: str) -> None:
        """Idempotent."""
        await self._run(lambda: remove_netns(self._settings.netns_name(pod_uid), self._settings.veth_name(pod_uid)))

    async def connect(self, netns: Path, address: tuple[str, int]) -> socket.socket:
        """A non-blocking TCP socket that belongs to the pod's namespace, not yet connected."""

        def open_socket() -> socket.socket:
            with inside_netns(netns):
                return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

        sock = await self._run(open_socket)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def remove_netns(netns_name: str, veth: str | None) -> None:
    """Take away a namespace and its link. Absent ones are fine."""
    if veth is not None:
        remove_link(veth)
    path = NETNS_DIR / netns_name
    while path.exists() and _libc.umount2(str(path).encode(), _MNT_DETACH) == 0:
        pass
    path.unlink(missing_ok=True)


def share_netns_dir() -> bool:
    """Bind NETNS_DIR to itself, shared, as `ip netns` does when first used; False when somebody has done so before.

    Left to ip, that bind would come to lie over the names of running pods, which could then not be removed.
    """
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    name = str(NETNS_DIR).encode()
    if _libc.mount(b"", name, b"none", ctypes.c_ulong(_MS_SHARED | _MS_REC), None) == 0:
        return False
    # EINVAL: not a mount point yet. Other errors come back from the next calls.
    _check(_libc.mount(name, name, b"none", ctypes.c_ulong(_MS_BIND | _MS_REC), None), f"bind {NETNS_DIR}")
    _check(_libc.mount(b"", name, b"none", ctypes.c_ulong(_MS_SHARED | _MS_REC), None), f"share {NETNS_DIR}")
    return True


def unshare_netns_dir() -> None:
    """Undo `share_netns_dir`, unless namespaces of others have names there by now."""
    if NETNS_DIR.is_dir() and not any(NETNS_DIR.iterdir()):
        _libc.umount2(str(NETNS_DIR).encode(), _MNT_DETACH)


def remove_link(name: str) -> None:
    """Delete a link by name, if it exists."""
    with closing(IPRoute()) as ipr:
        for index in ipr.link_lookup(ifname=name):
            with suppress(NetlinkError):
                ipr.link("del", index=index)


def links_with_prefix(prefix: str) -> list[str]:
    """Names of links of the host that begin with prefix."""
    return sorted(name for _, name in socket.if_nameindex() if name.startswith(prefix))


def _setup_host(settings: NodeSettings) -> None:
    recorded = settings.state_dir / "ip_forward.before"
    before = IP_FORWARD.read_text().strip()
    if not recorded.exists():
        recorded.write_text(before)
    if before != "1":
        IP_FORWARD.write_text("1")
    if share_netns_dir():
        (settings.state_dir / NETNS_DIR_SHARED).touch()
    with closing(IPRoute()) as ipr:
        name = settings.gateway_link
        if not ipr.link_lookup(ifname=name):
            # A dummy link would do, but not every kernel has one, and veth is needed anyway.
            ipr.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}p"})
        index = ipr.link_lookup(ifname=name)[0]
        _ignoring_exists(lambda: ipr.addr("add", index=index, address=str(settings.gateway_ip), prefixlen=32))
        for number in (index, *ipr.link_lookup(ifname=f"{name}p")):
            ipr.link("set", index=number, state="up")
        # Service addresses need a route of their own on a machine without a default one; the rules do the rest.
        ipr.route("replace", dst=str(settings.service_cidr), oif=index, scope=253, prefsrc=str(settings.gateway_ip))


def _add_pod(settings: NodeSettings, pod_uid: str, pod_ip: IPv4Address) -> Path:
    netns_name, veth = settings.netns_name(pod_uid), settings.veth_name(pod_uid)
    remove_netns(netns_name, veth)
    path = _create_netns(netns_name)
    with closing(IPRoute()) as ipr:
        fd = os.open(path, os.O_RDONLY)
        try:
            ipr.link("add", ifname=veth, kind="veth", address=HOST_MAC, peer={"ifname": "eth0", "net_ns_fd": fd})
        finally:
            os.close(fd)
        host_index = ipr.link_lookup(ifname=veth)[0]
        ipr.link("set", index=host_index, state="up")
        ipr.route("replace", dst=f"{pod_ip}/32", oif=host_index, scope=253, prefsrc=str(settings.gateway_ip))
    with inside_netns(path), closing(IPRoute()) as ipr:
        ipr.link("set", index=ipr.link_lookup(ifname="lo")[0], state="up")
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.addr("add", index=index, address=str(pod_ip), prefixlen=32)
        ipr.link("set", index=index, state="up")
        ipr.neigh("replace", dst=LINK_LOCAL_GATEWAY, lladdr=HOST_MAC, ifindex=index, state=NUD_PERMANENT)
        ipr.route("add", dst="default", gateway=LINK_LOCAL_GATEWAY, oif=index, flags=RTNH_F_ONLINK)
        # As container runtimes do: a pod's users may bind any port and ping.
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
    return path


def _create_netns(name: str) -> Path:
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = NETNS_DIR / name
    path.touch(mode=0o444, exist_ok=False)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNET), "create a network namespace")
        try:
            bound = _libc.mount(b"/proc/thread-self/ns/net", str(path).encode(), None, ctypes.c_ulong(_MS_BIND), None)
            _check(bound, f"keep the network namespace at {path}")
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "return to the host's network namespace")
    finally:
        os.close(home)
    return path


@contextmanager
def inside_netns(path: Path) -> Iterator[None]:
    """Run the body with this thread in another network namespace. Never around an await."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(path, os.O_RDONLY)
        try:
            _check(_libc.setns(target, _CLONE_NEWNET), f"enter {path}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "return to the host's network namespace")
    finally:
        os.close(home)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _ignoring_exists(call: Callable[[], Any]) -> None:
    try:
        call()
    except NetlinkError as error:
        if error.code != 17:  # EEXIST
            raise
