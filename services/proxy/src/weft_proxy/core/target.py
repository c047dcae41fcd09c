"""One outbound target: its policy and its profile arrive apart and are told to the engine together (wire.md 2.1)."""

from dataclasses import dataclass
from enum import Enum, auto

from weft_proto.linkerd import destination_pb2, outbound_pb2
from weft_proto.weft import engine_pb2

from weft_proxy.core.addresses import is_under, socket_addr_from_message, wants_profile
from weft_proxy.core.settings import DiscoverySettings
from weft_proxy.core.values import SocketAddr


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client of the application was going, or the `name:port` that a gateway or an ingress forwards to."""

    place: SocketAddr | str

    @property
    def path(self) -> str:
        """As discovery asks for it: a name's trailing dot is not sent."""
        if isinstance(self.place, SocketAddr):
            return str(self.place)
        name, colon, port = self.place.rpartition(":")
        return f"{name.removesuffix('.')}{colon}{port}"

    def wants_profile(self, settings: DiscoverySettings) -> bool:
        if isinstance(self.place, SocketAddr):
            return wants_profile(self.place.ip, settings.profile_networks)
        return is_under(self.place.rpartition(":")[0], settings.profile_suffixes)


def target_of(asked: engine_pb2.DiscoverTarget | engine_pb2.ReleaseTarget) -> Target | None:
    """None when the message names neither an address nor a name."""
    place = socket_addr_from_message(asked.original_dst) or asked.authority
    return Target(place) if place else None


class Answer(Enum):
    PENDING = auto()
    ABSENT = auto()


@dataclass(slots=True)
class TargetState:
    """Latest answers. A message replaces PENDING or ABSENT; nothing ever goes back to PENDING."""

    asked: engine_pb2.DiscoverTarget
    policy: outbound_pb2.OutboundPolicy | Answer = Answer.PENDING
    profile: destination_pb2.DestinationProfile | Answer = Answer.PENDING
    refusal: str = ""

    def command(self) -> engine_pb2.Command | None:
        """What the engine should hear now; None while an answer is missing. A refusal needs no second answer."""
        target = engine_pb2.SetOutboundTarget(authority=self.asked.authority)
        if self.asked.HasField("original_dst"):
            target.original_dst.CopyFrom(self.asked.original_dst)
        if self.refusal:
            target.refusal = self.refusal
            return engine_pb2.Command(set_outbound_target=target)
        if self.policy is Answer.PENDING or self.profile is Answer.PENDING:
            return None
        if isinstance(self.policy, outbound_pb2.OutboundPolicy):
            target.policy.CopyFrom(self.policy)
        if isinstance(self.profile, destination_pb2.DestinationProfile):
            target.profile.CopyFrom(self.profile)
        return engine_pb2.Command(set_outbound_target=target)
