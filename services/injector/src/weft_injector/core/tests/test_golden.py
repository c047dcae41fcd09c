"""A pod with the annotations of a Linkerd user, injected: every field, in a file that is reviewed as code.

Refresh with `WEFT_REFRESH_GOLDEN=1 pytest services/injector`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from weft_injector.core.settings import settings_from_values
from weft_injector.core.tests.test_inject import injected

GOLDEN = Path(__file__).with_name("golden")

POD = """
metadata:
  generateName: web-7d-
  labels: {app.kubernetes.io/name: web}
  annotations:
    prometheus.io/scrape: "true"
    config.linkerd.io/skip-outbound-ports: "8000-8010,3306"
    config.linkerd.io/skip-inbound-ports: "9000"
    config.linkerd.io/skip-subnets: "10.9.0.0/16"
    config.linkerd.io/proxy-cpu-request: 250m
    config.linkerd.io/proxy-cpu-limit: 1500m
    config.linkerd.io/proxy-memory-limit: 128Mi
    config.linkerd.io/proxy-log-level: debug
    config.linkerd.io/proxy-outbound-connect-timeout: 1.5s
    config.linkerd.io/proxy-inbound-discovery-cache-unused-timeout: 2m
    config.linkerd.io/access-log: json
    config.linkerd.io/shutdown-grace-period: 30s
    config.linkerd.io/proxy-require-identity-inbound-ports: "8443"
    config.linkerd.io/proxy-additional-env: '[{"name": "EXTRA", "value": "of the pod"}]'
    resource.opentelemetry.io/team: shop
spec:
  serviceAccountName: web
  initContainers: [{name: migrate, image: shop/migrate}]
  containers:
    - name: web
      image: shop/web:3
      ports: [{name: http, containerPort: 8080}, {name: mysql, containerPort: 3306}]
      readinessProbe: {httpGet: {path: /ready, port: 8081}}
      securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
      volumeMounts:
        - {name: kube-api-access, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
"""
NAMESPACE = {
    "linkerd.io/inject": "ingress",
    "config.linkerd.io/default-inbound-policy": "all-authenticated",
    "config.linkerd.io/proxy-log-format": "json",
    "config.linkerd.io/enable-debug-sidecar": "true",
}
VALUES = """
proxy:
  tracing:
    enabled: true
    collector:
      endpoint: collector.tracing:4317
      meshIdentity: {serviceAccountName: collector, namespace: tracing}
"""
KINDS = {
    "native": {},
    "classic": {
        "config.linkerd.io/proxy-enable-native-sidecar": "false",
        "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "5",
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_injected_pod_is_the_reviewed_one(kind: str) -> None:
    pod, outcome = injected(
        yaml.safe_load(POD), {**NAMESPACE, **KINDS[kind]}, settings_from_values(yaml.safe_load(VALUES))
    )
    assert outcome.warnings == ()
    path = GOLDEN / f"{kind}.yaml"
    if os.environ.get("WEFT_REFRESH_GOLDEN"):
        path.write_text(yaml.dump(pod, sort_keys=False, Dumper=_Plain))
    assert pod == yaml.safe_load(path.read_text())


class _Plain(yaml.SafeDumper):
    """Shared parts written out, as a pod has them."""

    def ignore_aliases(self, data: object) -> bool:
        return True
