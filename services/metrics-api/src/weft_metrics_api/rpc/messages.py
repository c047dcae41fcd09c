"""What every question and answer is made of: resources and selectors as messages carry them."""

from __future__ import annotations

from weft_proto.weft import metrics_pb2 as pb

from weft_metrics_api.core.resources import ResourceId
from weft_metrics_api.core.stat import BadQuery, Selector


def resource(found: ResourceId) -> pb.Resource:
    """An object, by namespace, kind and name."""
    return pb.Resource(namespace=found.namespace, kind=found.kind, name=found.name)


def selector(message: pb.Resource) -> Selector:
    """What is asked about. Raises BadQuery without a kind."""
    if not message.kind:
        raise BadQuery("kind is required")
    return Selector(message.kind, message.namespace, message.name)
