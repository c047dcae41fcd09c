"""The built engine as one pod's proxy, and the test in the place of its Python side.

Policies and targets are tables that a test fills; questions of the engine are answered from them.
"""

import os
import re
import select
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import weft_engine
from weft_proto.linkerd import destination_pb2, inbound_pb2, outbound_pb2
from weft_proto.weft import decision_pb2, engine_pb2

from . import policies
from .certificates import Authority, Leaf, workload
from .namespace import ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT, POD, POD6

IDENTITY = workload("web")
PORTS = range(8080, 8090)
"""Watched from the start, so that a policy is in force as soon as it is set."""
SAMPLE = re.compile(r"^(?P<name>[a-z_0-9]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'([a-z_0-9]+)="((?:[^"\\]|\\.)*)"')


class Pod:
    """settings: fields of `weft.engine.v1.Settings` that differ from the usual ones."""

    def __init__(self, authority: Authority, **settings: Any) -> None:
        usual: dict[str, Any] = {
            "local_identity": IDENTITY,
            "trust_anchors_pem": authority.pem,
            "outbound_listen": [policies.socket_message(ip, OUTBOUND_PORT) for ip in ("127.0.0.1", "::1")],
            "inbound_listen": policies.socket_message("::", INBOUND_PORT),
            "admin_listen": policies.socket_message("::", ADMIN_PORT),
            "inbound_ips": [policies.ip_message(POD), policies.ip_message(POD6)],
            "inbound_default": policies.default("all-unauthenticated", policies.anyone()),
            "inbound_default_opaque": policies.opaque(),
            "inbound_ports": list(PORTS),
            "inbound_connect_timeout_ms": 1000,
            "outbound_connect_timeout_ms": 1000,
            "worker_threads": 1,
            "informational_headers": True,
            "max_header_bytes": 64 * 1024,
        }
        self.targets: dict[str, engine_pb2.SetOutboundTarget] = {}
        """By `ip:port` or `name:port`."""
        self.endpoints: dict[str, destination_pb2.Update] = {}
        """By discovery path."""
        self.withheld: set[str] = set()
        """Targets whose answer waits for `tell_target`."""
        self.asked: list[str] = []
        """Every target, name, port and discovery path that the engine asked about, in its order; ports as text."""
        self.released: list[str] = []
        """Those that it no longer wants to hear of."""
        self.profiles: dict[str, destination_pb2.DestinationProfile | None] = {}
        """By the `name:port` of inbound requests; None: there is none. Of other names nothing is heard."""
        self.logs: list[engine_pb2.Log] = []
        self.admin_requests: list[engine_pb2.AdminRequest] = []
        self._waiting: dict[str, engine_pb2.DiscoverTarget] = {}
        self._ended = threading.Event()
        self._engine = weft_engine.Engine(engine_pb2.Settings(**(usual | settings)).SerializeToString())
        self._engine.start()
        self._pump = threading.Thread(target=self._answer, name="engine events")
        self._pump.start()
        self.set_identity(authority.issue(IDENTITY))
        self._apply(open_data_listeners=engine_pb2.OpenDataListeners())

    def close(self) -> None:
        self._ended.set()
        self._pump.join()
        self._engine.stop()

    def set_identity(self, leaf: Leaf) -> None:
        self._apply(set_identity=engine_pb2.SetIdentity(leaf_der=leaf.der, private_key_pkcs8=leaf.key_der))

    def set_policy(self, port: int, policy: inbound_pb2.Server) -> None:
        self._apply(set_inbound_port=engine_pb2.SetInboundPort(port=port, policy=policy))

    def set_target(
        self,
        target: str,
        policy: outbound_pb2.OutboundPolicy | None = None,
        profile: destination_pb2.DestinationProfile | None = None,
    ) -> None:
        self.targets[target] = engine_pb2.SetOutboundTarget(policy=policy, profile=profile)

    def tell_target(self, target: str) -> None:
        """Answers now what was withheld, once it is asked."""
        eventually(lambda: target in self._waiting)
        self.withheld.discard(target)
        self._tell_target(target, self._waiting.pop(target))

    def change_name(self, name: str, policy: outbound_pb2.OutboundPolicy) -> None:
        """News of a `name:port` that the engine asked for."""
        self.set_target(name, policy)
        self._tell_target(name, engine_pb2.DiscoverTarget(authority=name))

    def set_endpoints(self, path: str, update: destination_pb2.Update, *, is_first: bool = False) -> None:
        """One more message of the path's stream. is_first: the stream was opened anew."""
        self._apply(set_endpoints=engine_pb2.SetEndpoints(path=path, first_of_stream=is_first, update=update))

    def refuse_endpoints(self, path: str, why: str) -> None:
        """The control plane will never answer."""
        self._apply(set_endpoints=engine_pb2.SetEndpoints(path=path, refusal=why))

    def set_profile(self, name: str, profile: destination_pb2.DestinationProfile | None) -> None:
        """As set_policy, for what is known of the name from now on."""
        self.profiles[name] = profile
        self._apply(set_profile=engine_pb2.SetProfile(authority=name, profile=profile))

    def drain(self) -> None:
        self._apply(drain=engine_pb2.Drain(grace_ms=5000))

    def exposition(self) -> str:
        return self._engine.metrics().decode()

    def value(self, family: str, **labels: str) -> float:
        """Sum of the family's series that carry these labels."""
        total = 0.0
        for sample in SAMPLE.finditer(self.exposition()):
            if sample["name"] == family and dict(LABEL.findall(sample["labels"] or "")).items() >= labels.items():
                total += float(sample["value"])
        return total

    def series(self, family: str) -> list[dict[str, str]]:
        samples = SAMPLE.finditer(self.exposition())
        return [dict(LABEL.findall(s["labels"] or "")) for s in samples if s["name"] == family]

    def decisions(self) -> list[decision_pb2.Decision]:
        """Kept records, newest first."""
        asked = decision_pb2.ListDecisions()
        return list(decision_pb2.DecisionList.FromString(self._engine.decisions(asked.SerializeToString())).decisions)

    def logged(self, message: str) -> list[dict[str, str]]:
        """Fields of each log event with this message."""
        return [dict(log.fields) for log in self.logs if log.message == message]

    def _apply(self, **kind: Any) -> None:
        self._engine.apply(engine_pb2.Command(**kind).SerializeToString())

    def _answer(self) -> None:
        while not self._ended.is_set():
            readable, _, _ = select.select([self._engine.event_fd()], [], [], 0.1)
            if readable:
                os.read(self._engine.event_fd(), 8)
                for raw in self._engine.drain_events():
                    self._on(engine_pb2.Event.FromString(raw))

    def _on(self, event: engine_pb2.Event) -> None:
        match event.WhichOneof("kind"):
            case "log":
                self.logs.append(event.log)
            case "discover_target":
                target = _name_of(event.discover_target)
                self.asked.append(target)
                if target in self.withheld:
                    self._waiting[target] = event.discover_target
                else:
                    self._tell_target(target, event.discover_target)
            case "release_target":
                self.released.append(_name_of(event.release_target))
            case "discover_profile":
                name = event.discover_profile.authority
                self.asked.append(name)
                if name in self.profiles:
                    self._apply(set_profile=engine_pb2.SetProfile(authority=name, profile=self.profiles[name]))
            case "release_profile":
                self.released.append(event.release_profile.authority)
            case "discover_endpoints":
                path = event.discover_endpoints.path
                self.asked.append(path)
                if update := self.endpoints.get(path):
                    self.set_endpoints(path, update, is_first=True)
            case "release_endpoints":
                self.released.append(event.release_endpoints.path)
            case "watch_port":
                self.asked.append(str(event.watch_port.port))
            case "release_port":
                self.released.append(str(event.release_port.port))
            case "admin_request":
                self.admin_requests.append(event.admin_request)
                response = engine_pb2.AdminResponse(id=event.admin_request.id, status=200, body=b"admin\n")
                self._apply(admin_response=response)

    def _tell_target(self, target: str, asked: engine_pb2.DiscoverTarget) -> None:
        answer = engine_pb2.SetOutboundTarget()
        if known := self.targets.get(target):
            answer.CopyFrom(known)
        answer.authority = asked.authority
        if asked.HasField("original_dst"):
            answer.original_dst.CopyFrom(asked.original_dst)
        self._apply(set_outbound_target=answer)


def _name_of(asked: engine_pb2.DiscoverTarget | engine_pb2.ReleaseTarget) -> str:
    """As `Pod.targets` calls it."""
    ip = asked.original_dst.ip
    return asked.authority or f"{POD if ip.WhichOneof('ip') == 'ipv4' else POD6}:{asked.original_dst.port}"


def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    """What another thread makes true."""
    deadline = monotonic() + within_s
    while not holds():
        assert monotonic() < deadline, "it did not become true in time"
        sleep(0.01)
