"""Finds the rules of an object's kind and collects everything they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_policy.validation import authorization, profiles, routes, traffic
from weft_policy.validation.findings import Field, Finding, Malformed
from weft_policy.validation.references import GATEWAY_GROUP, POLICY_GROUP

_Rules = Callable[[Field], Iterator[Finding]]

PROFILE_GROUP: Final = "linkerd.io"
_RULES: Final[Mapping[tuple[str, str], _Rules]] = {
    (POLICY_GROUP, "Server"): authorization.server,
    (POLICY_GROUP, "ServerAuthorization"): authorization.server_authorization,
    (POLICY_GROUP, "AuthorizationPolicy"): authorization.authorization_policy,
    (POLICY_GROUP, "MeshTLSAuthentication"): authorization.mesh_tls_authentication,
    (POLICY_GROUP, "NetworkAuthentication"): authorization.network_authentication,
    (POLICY_GROUP, "HTTPLocalRateLimitPolicy"): traffic.rate_limit,
    (POLICY_GROUP, "EgressNetwork"): traffic.egress_network,
    (POLICY_GROUP, "HTTPRoute"): routes.policy_http_route,
    (GATEWAY_GROUP, "HTTPRoute"): routes.gateway_http_route,
    (GATEWAY_GROUP, "GRPCRoute"): routes.grpc_route,
    (GATEWAY_GROUP, "TLSRoute"): routes.single_rule_route,
    (GATEWAY_GROUP, "TCPRoute"): routes.single_rule_route,
    (PROFILE_GROUP, "ServiceProfile"): profiles.service_profile,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """problems: the object is refused. warnings: it is admitted, and part of it cannot be read. Both by field."""

    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.problems))


ADMITTED: Final = Verdict()


def examine(obj: Mapping[str, Any]) -> Verdict:
    """obj: as the API has it; without a namespace, `default` is meant. Kinds that are not policy are admitted.

    A shape that cannot be read refuses the object, except in kinds of the Gateway API, which are not ours to refuse.
    """
    group = str(obj.get("apiVersion") or "").rpartition("/")[0]
    rules = _RULES.get((group, str(obj.get("kind") or "")))
    if rules is None:
        return ADMITTED
    found: list[Finding] = []
    try:
        root = Field("", obj)
        if not root["spec"]:
            raise root["spec"].malformed("an object")
        for finding in rules(root):
            found.append(finding)  # noqa: PERF402 - what was found before a malformed part stays found
    except Malformed as error:
        if group == GATEWAY_GROUP:
            return Verdict(tuple(found), (error.finding,))
        found.append(error.finding)
    return Verdict(tuple(dict.fromkeys(found)))
