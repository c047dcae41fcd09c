"""Policy that cannot work is refused before anything is applied, where it stands in its file."""

from __future__ import annotations

from ipaddress import IPv4Network

from weft_local.cluster.charts import definitions
from weft_local.manifests.check import Surroundings, find_policy_problems, find_problems
from weft_local.manifests.documents import parse
from weft_local.manifests.rehearsal import Rehearsal

NETWORKS = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata:
  name: office
  namespace: shop
spec:
  networks:
    - cidr: 10.0.0.0/8
      except:
        - 11.0.0.0/8
"""


async def test_policy_mistake_is_told_by_file_and_line() -> None:
    (problem,) = await find_policy_problems(parse(NETWORKS, "p.yaml"), definitions())
    assert str(problem) == "p.yaml:10: spec.networks[0].except[0]: the exception 11.0.0.0/8 lies outside 10.0.0.0/8"


async def test_mistake_in_an_annotation_is_told_at_its_line() -> None:
    text = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: r
  annotations:
    retry.linkerd.io/limit: "2"
    retry.linkerd.io/http: 7xx
spec:
  parentRefs: [{group: core, kind: Service, name: web, port: 80}]
"""
    (problem,) = await find_policy_problems(parse(text, "r.yaml"), definitions())
    assert problem.line == 7
    assert "'7xx'" in problem.message


async def test_mistake_of_shape_is_told_once() -> None:
    text = NETWORKS.replace("10.0.0.0/8", "true")
    (problem,) = await find_policy_problems(parse(text, "p.yaml"), definitions())
    assert problem.line == 8


async def test_up_tells_of_policy_and_of_the_missing_namespace_at_once() -> None:
    around = Surroundings(definitions(), {}, lambda _: None)
    problems = await find_problems(parse(NETWORKS, "p.yaml"), around, Rehearsal(IPv4Network("192.0.2.0/24")))
    assert [problem.field for problem in problems] == ["metadata.namespace", "spec.networks[0].except[0]"]
