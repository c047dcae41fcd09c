"""What crosses the wire between two meshed pods."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable

import pytest

from .conftest import Mesh

pytestmark = pytest.mark.e2e

ETH_P_ALL = 0x0003
ETH_IPV4 = b"\x08\x00"
CANARY = "canary-5f3759df-of-the-payload"


class Capture:
    """Every frame on one interface of the host from or to some peers, from a packet socket, until stopped."""

    def __init__(self, interface: str, peers: Iterable[str]) -> None:
        self._peers = {socket.inet_aton(ip) for ip in peers}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((interface, 0))
        self._socket.settimeout(0.2)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"capture {interface}")
        self.frames: list[bytes] = []
        self._thread.start()

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                self.frames.append(self._socket.recv(65535))
            except TimeoutError:
                continue

    def stop(self) -> bytes:
        self._stopping.set()
        self._thread.join()
        self._socket.close()
        return b"".join(frame for frame in self.frames if self._is_wanted(frame))

    def _is_wanted(self, frame: bytes) -> bool:
        """IPv4 from or to one of the addresses: the kubelet's probes and the scrapes of metrics are plain HTTP."""
        return frame[12:14] == ETH_IPV4 and bool({frame[26:30], frame[30:34]} & self._peers)


def interface_of(pod_ip: str) -> str:
    """The host's end of a pod's veth pair: the device of the route to its address."""
    routes = json.loads(subprocess.run(["ip", "-j", "route", "get", pod_ip], capture_output=True, check=True).stdout)
    return str(routes[0]["dev"])


def test_no_byte_of_the_payload_is_readable_between_meshed_pods(mesh: Mesh) -> None:
    # Not at the frontend's end, where the client outside the mesh is heard too.
    (traffic,) = _ips(mesh, "bookshop", "traffic")
    capture = Capture(interface_of(traffic), _ips(mesh, "bookshop", "frontend"))
    try:
        for _ in range(10):
            reply = _get(mesh, "bookshop", "traffic", "traffic")
            assert "200" in reply
        time.sleep(0.5)
    finally:
        meshed = capture.stop()
    assert len(meshed) > 1000, "nothing was captured"
    assert _tls_records(meshed) > 0
    for secret in (CANARY.encode(), b"GET /books", b"Mythical", b"user-agent", b"HTTP/1.1"):
        assert secret not in meshed, secret


def test_the_same_capture_reads_a_client_outside_the_mesh(mesh: Mesh) -> None:
    """Guards the test above: if this cannot see plaintext, that one proves nothing."""
    (legacy,) = _ips(mesh, "legacy", "legacy-client")
    # It calls the Service's address, which its own namespace of the network does not translate.
    service = mesh.kubectl_json("get", "service", "-n", "bookshop", "frontend")["spec"]["clusterIP"]
    capture = Capture(interface_of(legacy), [service, *_ips(mesh, "bookshop", "frontend")])
    try:
        assert "200" in _get(mesh, "legacy", "legacy-client", "client")
        time.sleep(0.5)
    finally:
        plain = capture.stop()
    assert CANARY.encode() in plain


def _ips(mesh: Mesh, namespace: str, app: str) -> list[str]:
    pods = mesh.kubectl_json("get", "pods", "-n", namespace, "-l", f"app={app}")["items"]
    return [pod["status"]["podIP"] for pod in pods]


def _get(mesh: Mesh, namespace: str, app: str, container: str) -> str:
    script = (
        "import urllib.request as u; "
        f"r=u.urlopen(u.Request('http://frontend.bookshop:8080/?{CANARY}', headers={{'x-canary': '{CANARY}'}})); "
        "print(r.status)"
    )
    return mesh.exec_in(namespace, mesh.pod(namespace, app), container, "python", "-c", script)


def _tls_records(data: bytes) -> int:
    """How often a TLS application-data record header occurs: type 23, version 3.3."""
    return data.count(struct.pack("!BH", 23, 0x0303))
