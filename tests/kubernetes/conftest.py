"""Every test here runs twice: on the API server inside `weft local`, and on kube-apiserver with etcd."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.kubernetes.addresses import own_address
from tests.kubernetes.api_servers import BOOT, EMBEDDED, KUBE_APISERVER, ApiServer
from tests.kubernetes.installation import CONTROL_PLANE, Installation, Service, new_installation

COMPONENTS: Final = ("weft-crds", "weft-identity", "weft-destination", "weft-injector")
_numbers = itertools.count()


@pytest.fixture(
    scope="session", params=[pytest.param(name, marks=pytest.mark.kubernetes) for name in (EMBEDDED, KUBE_APISERVER)]
)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server."""
    with BOOT[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def mesh(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The charts of the control plane, installed one by one. At the end, nothing that a service did was forbidden."""
    installation = new_installation(api, tmp_path_factory.mktemp("mesh"))
    for component in COMPONENTS:
        installation.install(component)
    yield installation
    assert api.refusals(CONTROL_PLANE) == []


@pytest.fixture(scope="session")
def identity(mesh: Installation) -> Iterator[Service]:
    """The identity service, ready."""
    with mesh.service("linkerd-identity") as service:
        yield service


@pytest.fixture(scope="session")
def destination(mesh: Installation) -> Iterator[Service]:
    """The destination service, ready."""
    with mesh.service("linkerd-destination") as service:
        yield service


@pytest.fixture(scope="session")
def injector(mesh: Installation) -> Iterator[Service]:
    """The injector, ready, and published where the API server looks for it."""
    with mesh.service("linkerd-proxy-injector") as service, own_address() as address:
        mesh.publish("linkerd-proxy-injector", service.ports["proxy-injector"], address)
        yield service


@pytest.fixture
def namespace(mesh: Installation) -> str:
    """A namespace of the test's own, with the ServiceAccount that a controller would make."""
    name = f"test-{next(_numbers)}"
    mesh.kubectl("create", "namespace", name)
    mesh.kubectl("create", "serviceaccount", "default", "--namespace", name)
    return name
