"""The four kinds of question this service answers, with the facts each answer rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from weft_policy.core.endpoints import EndpointSet, Locality, endpoints_of
from weft_policy.core.inbound import InboundAnswer, inbound_server_of
from weft_policy.core.index import (
    AUTHENTICATIONS_TOPIC,
    EGRESS_TOPIC,
    NODES_TOPIC,
    ClusterIndex,
    Topic,
    address_topic,
    pod_topic,
    policy_topic,
    routes_topic,
    service_topic,
    workload_topic,
)
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, ServiceTarget, WorkloadRef
from weft_policy.core.outbound import OutboundAnswer, outbound_policy_of
from weft_policy.core.profile import ProfileAnswer, profile_of

from weft_destination.views import Refresher, Views


@dataclass(frozen=True, slots=True)
class EndpointQuestion:
    """Which endpoints does a target have, seen from there?"""

    target: ServiceTarget
    locality: Locality


@dataclass(frozen=True, slots=True)
class ProfileQuestion:
    """What is a target, seen from a zone and a namespace?"""

    target: ServiceTarget | AddressTarget
    client_zone: str
    client_namespace: str = ""


@dataclass(frozen=True, slots=True)
class OutboundQuestion:
    """How should a client of a namespace send to a target? to_weft: the client's proxy is one of ours."""

    target: ServiceTarget | AddressTarget
    client_namespace: str
    to_weft: bool = True


@dataclass(frozen=True, slots=True)
class ServerQuestion:
    """Who may reach a port of a workload?"""

    workload: WorkloadRef
    port: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Views of every kind over one index."""

    mesh: Mesh
    refresher: Refresher
    endpoints: Views[EndpointQuestion, EndpointSet | Refusal]
    profiles: Views[ProfileQuestion, ProfileAnswer]
    outbound: Views[OutboundQuestion, OutboundAnswer]
    inbound: Views[ServerQuestion, InboundAnswer]

    @property
    def index(self) -> ClusterIndex:
        """What the answers are made from."""
        return self.refresher.index


def make_answers(mesh: Mesh, served: Callable[[EndpointQuestion], None] = lambda _: None) -> Answers:
    """Connect questions, the index and the refresher. served: told of each endpoint question with a new answer."""
    refresher = Refresher()
    index = refresher.index
    answers = Answers(
        mesh=mesh,
        refresher=refresher,
        endpoints=Views(
            lambda asked: endpoints_of(index, mesh, asked.target, asked.locality),
            lambda asked: frozenset({service_topic(asked.target.service), NODES_TOPIC}),
            served,
        ),
        profiles=Views(
            lambda asked: profile_of(index, mesh, asked.target, asked.client_zone, asked.client_namespace),
            lambda asked: _topics_of(asked.target) | {NODES_TOPIC},
        ),
        outbound=Views(
            lambda asked: outbound_policy_of(index, mesh, asked.target, asked.client_namespace),
            lambda asked: _outbound_topics_of(asked.target),
        ),
        inbound=Views(
            lambda asked: inbound_server_of(index, mesh, asked.workload, asked.port),
            lambda asked: frozenset(
                {
                    (workload_topic if asked.workload.is_external else pod_topic)(asked.workload.name),
                    policy_topic(asked.workload.name.namespace),
                    AUTHENTICATIONS_TOPIC,
                }
            ),
        ),
    )
    refresher.kinds = [answers.endpoints, answers.profiles, answers.outbound, answers.inbound]
    return answers


def _topics_of(target: ServiceTarget | AddressTarget) -> frozenset[Topic]:
    if isinstance(target, ServiceTarget):
        return frozenset({service_topic(target.service)})
    return frozenset({address_topic(target.ip)})


def _outbound_topics_of(target: ServiceTarget | AddressTarget) -> frozenset[Topic]:
    if isinstance(target, ServiceTarget):
        return frozenset({routes_topic(target.service)})
    return frozenset({address_topic(target.ip), EGRESS_TOPIC})
