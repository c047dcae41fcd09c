"""Local rate limits: the total, one client's share, an override (wire.md 3.5)."""

from collections.abc import Iterator

import pytest

from . import policies
from .certificates import Authority, workload
from .clients import Http2, connect, connect_meshed, get, http1
from .pod import Pod
from .servers import HttpApp, http_app

PORT = 8080
CART, BOOKS = workload("cart"), workload("books")


@pytest.fixture(scope="module")
def app(pod: Pod) -> Iterator[HttpApp]:
    with http_app(PORT) as app:
        yield app


@pytest.fixture(autouse=True)
def unused(pod: Pod) -> None:
    """What one test used up of a limit must not count in the next: equal limits keep it."""
    pod.set_policy(PORT, policies.detect())


def statuses(authority: Authority, identity: str, count: int) -> list[int]:
    stream = connect_meshed(authority, identity, PORT) if identity else connect(PORT)
    with stream:
        return [http1(stream, get()).status for _ in range(count)]


def test_requests_beyond_the_total_are_refused_and_counted(pod: Pod, app: HttpApp, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect(rate_limit=policies.rate_limit(total=3)))
    assert statuses(authority, CART, 6)[:4] == [200, 200, 200, 429]
    labels = {"srv_name": "web", "ratelimit_name": "slowly", "ratelimit_kind": "httplocalratelimitpolicy"}
    refused = pod.value("inbound_http_local_ratelimit_total", ratelimit_scope="total", client_id=CART, **labels)
    assert refused >= 2


def test_a_refused_client_hears_429_and_keeps_its_connection(pod: Pod, app: HttpApp, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect(rate_limit=policies.rate_limit(total=1)))
    with connect_meshed(authority, CART, PORT) as stream:
        assert http1(stream, get()).status == 200
        refused = http1(stream, get())
        assert (refused.status, refused.first("l5d-proxy-error")) == (429, "rate limit exceeded")
        assert not refused.first("connection")
        assert http1(stream, get()).status == 429


def test_a_refused_grpc_call_ends_with_resource_exhausted(pod: Pod, app: HttpApp) -> None:
    pod.set_policy(PORT, policies.detect(rate_limit=policies.rate_limit(total=1)))
    with connect(PORT) as stream:
        http2 = Http2(stream)
        assert http2.request(headers=[("l5d-orig-proto", "HTTP/1.1")]).status == 200
        assert http2.grpc().first("grpc-status") == "8"


def test_each_identity_has_a_share_and_strangers_have_one_together(
    pod: Pod, app: HttpApp, authority: Authority
) -> None:
    pod.set_policy(PORT, policies.detect(rate_limit=policies.rate_limit(identity=2)))
    assert statuses(authority, CART, 3) == [200, 200, 429]
    assert statuses(authority, BOOKS, 3) == [200, 200, 429]
    assert statuses(authority, "", 2) + statuses(authority, "", 1) == [200, 200, 429]
    assert pod.value("inbound_http_local_ratelimit_total", ratelimit_scope="identity") >= 3


def test_an_override_goes_before_the_common_share(pod: Pod, app: HttpApp, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect(rate_limit=policies.rate_limit(identity=1, overrides={CART: 4})))
    assert statuses(authority, CART, 5) == [200, 200, 200, 200, 429]
    assert statuses(authority, BOOKS, 2) == [200, 429]


def test_what_was_used_stays_used_when_something_else_of_the_policy_changes(
    pod: Pod, app: HttpApp, authority: Authority
) -> None:
    limit = policies.rate_limit(total=2)
    pod.set_policy(PORT, policies.detect(rate_limit=limit))
    assert statuses(authority, CART, 2) == [200, 200]
    pod.set_policy(PORT, policies.detect(policies.route(name="renamed"), rate_limit=limit))
    assert statuses(authority, CART, 1) == [429]
