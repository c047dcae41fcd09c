from weft_proxy.core.metrics import ControlMetrics, IdentityMetrics, exposition
from weft_proxy.core.settings import ControlService
from weft_proxy.core.values import HostPort


def test_certificate_times_appear_after_the_first_certificate() -> None:
    identity = IdentityMetrics()
    assert b"expiration" not in exposition(identity, ControlMetrics())
    identity.not_after_s, identity.refreshed_at_s = 2000.0, 1000.0
    identity.refreshes["ok"] += 1
    text = exposition(identity, ControlMetrics()).decode()
    assert "control_identity_cert_expiration_timestamp_seconds 2000.0\n" in text
    assert 'control_identity_cert_refreshes_total{result="ok"} 1\n' in text
    assert 'control_identity_cert_refreshes_total{result="error"} 0\n' in text


def test_control_calls_are_counted_by_service_and_status() -> None:
    now = [10.0]
    control = ControlMetrics(lambda: now[0])
    service = ControlService("policy", HostPort("policy.linkerd:8090", "policy.linkerd", 8090), "policy.identity")
    call, other = control.started(service), control.started(service)
    now[0] += 0.0125
    call.answered()
    now[0] += 100
    call.answered()
    call.ended(("NOT_FOUND", 5))
    other.ended(("UNAVAILABLE", 14))
    text = exposition(IdentityMetrics(), control).decode()
    labels = 'addr="policy.linkerd:8090",tls="true",server_id="policy.identity"'
    assert f"control_request_total{{{labels}}} 2\n" in text
    found = f'{labels},status_code="200",classification="success",grpc_status="5",error=""'
    assert f"control_response_total{{{found}}} 1\n" in text
    assert f'control_response_total{{{labels},classification="failure",grpc_status="14",error=""}} 1\n' in text
    latency = f'{labels},status_code="200"'
    assert f'control_response_latency_ms_bucket{{{latency},le="10"}} 0\n' in text
    assert f'control_response_latency_ms_bucket{{{latency},le="20"}} 1\n' in text
    assert f"control_response_latency_ms_count{{{latency}}} 1\n" in text
    assert f"control_response_latency_ms_sum{{{latency}}} 12\n" in text
    assert f"weft_control_streams_open{{{labels}}} 0\n" in text
    assert text.endswith("\n")


def test_service_on_loopback_has_no_identity() -> None:
    control = ControlMetrics()
    control.started(ControlService("identity", HostPort("localhost:8080", "localhost", 8080), ""))
    labels = 'addr="localhost:8080",tls="no_identity",no_tls_reason="loopback"'
    assert f"control_request_total{{{labels}}} 1\n" in exposition(IdentityMetrics(), control).decode()
