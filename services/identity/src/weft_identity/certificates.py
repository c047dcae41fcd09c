"""Who is certified until when, for the command line and the UI (weft.identity.v1.Certificates). Values to messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.timestamp_pb2 import Timestamp
from weft_proto.weft import identity_pb2 as pb
from weft_proto.weft import identity_pb2_grpc

from weft_identity.core.inventory import Certificate
from weft_identity.core.issuer import IssuerUnusable, certificate_id
from weft_identity.ports import Material
from weft_identity.store import CertificateInventory


class CertificatesService(identity_pb2_grpc.CertificatesServicer):
    """trouble: why there is no usable material, empty when there is."""

    def __init__(
        self,
        inventory: CertificateInventory,
        material: Callable[[], Material | None],
        trouble: Callable[[], str],
        leaf_lifetime: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._inventory = inventory
        self._material = material
        self._trouble = trouble
        self._leaf_lifetime_s = int(leaf_lifetime.total_seconds())
        self._now = now

    async def List(  # noqa: N802 - the name is the API's
        self, request: pb.ListRequest, context: grpc.aio.ServicerContext[pb.ListRequest, pb.ListResponse]
    ) -> pb.ListResponse:
        """Live certificates."""
        found, complete = await self._inventory.certificates()
        wanted = [
            certificate
            for certificate in found
            if (not request.namespace or certificate.either.namespace == request.namespace)
            and (not request.pod or certificate.either.pod == request.pod)
        ]
        return pb.ListResponse(certificates=[message_from(certificate) for certificate in wanted], complete=complete)

    async def GetTrust(  # noqa: N802
        self, request: pb.GetTrustRequest, context: grpc.aio.ServicerContext[pb.GetTrustRequest, pb.TrustState]
    ) -> pb.TrustState:
        """Anchors and issuer."""
        material, trouble = self._material(), self._trouble()
        if material is None:
            return pb.TrustState(trouble=trouble, leaf_lifetime_s=self._leaf_lifetime_s)
        try:
            anchor = certificate_id(material.anchor(self._now()))
        except IssuerUnusable as error:
            anchor, trouble = "", str(error)
        return pb.TrustState(
            bundle_pem=material.bundle_pem,
            issuer_pem=b"".join(c.public_bytes(Encoding.PEM) for c in material.issuer.chain).decode(),
            anchor_id=anchor,
            trouble=trouble,
            leaf_lifetime_s=self._leaf_lifetime_s,
        )


def message_from(certificate: Certificate) -> pb.Certificate:
    """Of the leaf in use; what only a lost record would tell stays empty."""
    either, report, leaf = certificate.either, certificate.report, certificate.matching_leaf
    message = pb.Certificate(
        identity=either.identity,
        namespace=either.namespace,
        pod=either.pod,
        pod_uid=either.pod_uid,
        serial=certificate.serial,
        issuer_id=certificate.issuer_id,
        not_after=_time(certificate.not_after),
    )
    if leaf is not None:
        message.issuer_key_id, message.anchor_id = leaf.issuer_key_id, leaf.anchor_id
        message.not_before.CopyFrom(_stamp(leaf.not_before))
        message.issued_at.CopyFrom(_stamp(leaf.issued_at))
    if report is not None:
        message.trusted_anchors.extend(report.trusted_anchors)
        message.reported_at.CopyFrom(_stamp(report.reported_at))
        message.proxy = report.proxy
    return message


def _time(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else _stamp(moment)


def _stamp(moment: datetime) -> Timestamp:
    # A third of what FromDatetime takes, and a list of ten thousand certificates has forty thousand.
    return Timestamp(seconds=int(moment.timestamp()), nanos=moment.microsecond * 1000)
