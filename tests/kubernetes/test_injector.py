"""`kubectl apply` of a pod sends a real AdmissionReview to the injector, and stores what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.kubernetes.installation import Installation, Service


def pod(namespace: str, name: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 3306}]}]},
    }


def containers_of(found: dict[str, Any]) -> set[str]:
    spec = found["spec"]
    return {one["name"] for one in (*spec["containers"], *spec.get("initContainers", ()))}


def until(check: Callable[[], bool], within_s: float = 15) -> None:
    """The API server learns of endpoints and webhooks by watches of its own, a moment later."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_applied_pod_is_stored_with_the_proxy(mesh: Installation, injector: Service, namespace: str) -> None:
    def is_injected() -> bool:
        mesh.kubectl(
            "delete", "pod", "web", "--namespace", namespace, "--ignore-not-found", "--grace-period=0", "--force"
        )
        mesh.apply(pod(namespace, "web", **{"linkerd.io/inject": "enabled"}))
        return "linkerd-proxy" in containers_of(mesh.get("pod", "web", "--namespace", namespace))

    until(is_injected)
    stored = mesh.get("pod", "web", "--namespace", namespace)
    assert containers_of(stored) == {"app", "linkerd-proxy", "linkerd-init"}
    metadata = stored["metadata"]
    assert metadata["labels"]["linkerd.io/control-plane-ns"] == "linkerd"
    assert metadata["annotations"]["config.linkerd.io/opaque-ports"] == "3306"


def test_pod_that_declines_is_stored_as_it_is(mesh: Installation, injector: Service, namespace: str) -> None:
    mesh.kubectl("annotate", "namespace", namespace, "linkerd.io/inject=enabled")
    mesh.apply(pod(namespace, "web", **{"linkerd.io/inject": "disabled"}))
    assert containers_of(mesh.get("pod", "web", "--namespace", namespace)) == {"app"}
