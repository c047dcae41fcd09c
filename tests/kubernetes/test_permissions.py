"""What the charts allow each service is enough, and without it the service says what it lacks."""

from __future__ import annotations

import pytest

from tests.kubernetes.api_servers import ApiServer
from tests.kubernetes.installation import CONTROL_PLANE, Installation, Service


@pytest.fixture
def enforcing(api: ApiServer) -> ApiServer:
    if not api.enforces_rbac:
        pytest.skip("the embedded API server stores RBAC objects and enforces none")
    return api


def test_service_without_its_role_is_not_ready_and_is_seen_to_be_refused(
    enforcing: ApiServer, mesh: Installation
) -> None:
    stranger = "test-stranger"
    mesh.kubectl("create", "namespace", stranger)
    mesh.kubectl("create", "serviceaccount", "nobody", "--namespace", stranger)
    token = mesh.token_of("nobody", stranger)
    kubeconfig = str(enforcing.kubeconfig_for("nobody", token))
    with mesh.service("linkerd-destination", wait=False, KUBECONFIG=kubeconfig) as service:
        service.program.wait_until(lambda: "waiting for services" in service.missing(), 20)
        service.program.wait_until(lambda: bool(enforcing.refusals(stranger)), 20)
    assert any(line.startswith("nobody list /api/v1/services") for line in enforcing.refusals(stranger))
    assert "forbidden" in service.program.last_lines(100)


def test_services_are_ready_with_what_their_charts_allow(
    api: ApiServer, identity: Service, destination: Service, injector: Service
) -> None:
    assert [service.missing() for service in (identity, destination, injector)] == ["", "", ""]
    assert api.refusals(CONTROL_PLANE) == []
