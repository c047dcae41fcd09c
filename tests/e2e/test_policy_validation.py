"""Policy that cannot work is refused by the running mesh, with the message that `weft validate` has for the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Mesh

pytestmark = pytest.mark.e2e

NETWORKS = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: office, namespace: bookshop}
spec:
  networks: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]
"""
PROFILE = """\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: reviews.bookshop.svc.cluster.local, namespace: bookshop}
spec:
  routes: [{name: any, condition: {}}]
"""


@pytest.mark.parametrize(
    ("manifest", "webhook", "message"),
    [
        (NETWORKS, "linkerd-policy-validator", "spec.networks[0].except[0]: the exception 11.0.0.0/8 lies outside"),
        (PROFILE, "linkerd-sp-validator", "spec.routes[0].condition: is empty"),
    ],
)
def test_kubectl_is_refused_with_the_words_of_weft_validate(
    mesh: Mesh, tmp_path: Path, manifest: str, webhook: str, message: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(manifest)
    refused = mesh.kubectl("apply", "-f", str(file), check=False)
    assert refused.returncode == 1
    assert f'admission webhook "{webhook}.linkerd.io" denied the request: {message}' in refused.stderr
    validated = mesh.weft("validate", str(file), check=False)
    assert validated.returncode == 2
    assert message in validated.stdout
