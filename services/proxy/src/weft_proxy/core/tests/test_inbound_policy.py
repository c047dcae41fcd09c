from ipaddress import ip_network

import pytest
from weft_proxy.core.inbound_policy import default_server
from weft_proxy.core.values import DefaultPolicy

CLUSTER = (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize("policy", list(DefaultPolicy))
def test_server_is_labelled_as_the_default_it_stands_for(policy: DefaultPolicy) -> None:
    server = default_server(policy, CLUSTER, 10_000, opaque=False)
    assert dict(server.labels) == {"group": "", "kind": "default", "name": policy.value}
    assert server.protocol.detect.timeout.seconds == 10
    assert server.protocol.detect.http_routes[0].rules[0].matches[0].path.prefix == "/"


def test_opaque_ports_are_not_detected() -> None:
    server = default_server(DefaultPolicy.ALL_UNAUTHENTICATED, (), 10_000, opaque=True)
    assert server.protocol.WhichOneof("kind") == "opaque"


def test_deny_authorizes_nobody() -> None:
    assert not default_server(DefaultPolicy.DENY, (), 1, opaque=False).authorizations


@pytest.mark.parametrize(
    ("policy", "networks", "authenticated"),
    [
        (DefaultPolicy.ALL_UNAUTHENTICATED, 2, False),
        (DefaultPolicy.AUDIT, 2, False),
        (DefaultPolicy.CLUSTER_UNAUTHENTICATED, 1, False),
        (DefaultPolicy.ALL_AUTHENTICATED, 2, True),
        (DefaultPolicy.CLUSTER_AUTHENTICATED, 1, True),
    ],
)
def test_policy_admits_its_networks_with_its_authentication(
    policy: DefaultPolicy, networks: int, authenticated: bool
) -> None:
    (authz,) = default_server(policy, CLUSTER, 1, opaque=False).authorizations
    assert len(authz.networks) == networks
    assert authz.metadata.default == policy.value
    if authenticated:
        (suffix,) = authz.authentication.meshTLS.identities.suffixes
        assert not suffix.parts
    else:
        assert authz.authentication.WhichOneof("permit") == "unauthenticated"
