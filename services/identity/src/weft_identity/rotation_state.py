"""A rotation as the cluster keeps it: the message `weft.identity.v1.RotationState` to core values and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from weft_proto.weft import identity_pb2 as pb

from weft_identity.core.rotation import Holder, Rotation, Side, Stage

STATE_KEY = "state"


class BadRotationState(Exception):
    """The ConfigMap holds something that is no rotation. The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class StoredRotation:
    """The message as it was read, kept for the fields that the machine does not decide about."""

    message: pb.RotationState
    rotation: Rotation


def stored_from_json(text: str) -> StoredRotation:
    """Raises BadRotationState."""
    try:
        message = json_format.Parse(text, pb.RotationState())
    except json_format.ParseError as error:
        raise BadRotationState(f"not a rotation: {error}") from error
    if message.stage == pb.RotationState.STAGE_UNSPECIFIED:
        raise BadRotationState("not a rotation: it has no stage")
    for name, side in (("from", getattr(message, "from")), ("to", message.to)):
        if side.name not in ("old", "new") or not side.bundle_pem or not side.issuer_id:
            raise BadRotationState(f"not a rotation: {name} lacks name, bundlePem or issuerId")
    rotation = Rotation(
        stage=Stage[pb.RotationState.Stage.Name(message.stage)],
        origin=_side(getattr(message, "from")),
        target=_side(message.to),
        stage_since=message.stage_since.ToDatetime(UTC),
        switched_at=message.switched_at.ToDatetime(UTC) if message.HasField("switched_at") else None,
        abort_requested=message.abort_requested,
        aborted=message.aborted,
        holders=tuple(Holder(h.namespace, h.pod, h.why) for h in message.holders),
    )
    return StoredRotation(message, rotation)


def json_from_stored(stored: StoredRotation, rotation: Rotation, trouble: str = "") -> str:
    """The JSON of what was stored, with the machine's fields as they are now."""
    message = pb.RotationState()
    message.CopyFrom(stored.message)
    message.stage = pb.RotationState.Stage.Value(rotation.stage.name)
    getattr(message, "from").CopyFrom(_side_message(rotation.origin))
    message.to.CopyFrom(_side_message(rotation.target))
    message.stage_since.CopyFrom(_stamp(rotation.stage_since))
    if rotation.switched_at is not None:
        message.switched_at.CopyFrom(_stamp(rotation.switched_at))
    message.aborted = rotation.aborted
    message.trouble = trouble
    del message.holders[:]
    message.holders.extend(pb.Holder(namespace=h.namespace, pod=h.pod, why=h.why) for h in rotation.holders)
    return json_format.MessageToJson(message, indent=None)


def _side(message: pb.RotationSide) -> Side:
    return Side(message.name, message.bundle_pem, message.issuer_id)


def _side_message(side: Side) -> pb.RotationSide:
    return pb.RotationSide(name=side.name, bundle_pem=side.bundle_pem, issuer_id=side.issuer_id)


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
