"""One outbound target: its policy and its profile arrive apart and are told to the engine together (wire.md 2.1)."""

from dataclasses import dataclass
from enum import Enum, auto

from weft_proto.linkerd import destination_pb2, net_pb2, outbound_pb2
from weft_proto.weft import engine_pb2


class Answer(Enum):
    PENDING = auto()
    ABSENT = auto()


@dataclass(slots=True)
class TargetState:
    """Latest answers. A message replaces PENDING or ABSENT; nothing ever goes back to PENDING."""

    original_dst: net_pb2.TcpAddress
    policy: outbound_pb2.OutboundPolicy | Answer = Answer.PENDING
    profile: destination_pb2.DestinationProfile | Answer = Answer.PENDING
    refusal: str = ""

    def command(self) -> engine_pb2.Command | None:
        """What the engine should hear now; None while an answer is missing. A refusal needs no second answer."""
        target = engine_pb2.SetOutboundTarget(original_dst=self.original_dst)
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
