from weft_proxy.core.metrics import ControlMetrics, IdentityMetrics, exposition


def test_certificate_times_appear_after_the_first_certificate() -> None:
    identity = IdentityMetrics()
    assert b"expiration" not in exposition(identity, ControlMetrics())
    identity.not_after_s, identity.refreshed_at_s = 2000.0, 1000.0
    identity.refreshes["ok"] += 1
    text = exposition(identity, ControlMetrics()).decode()
    assert "control_identity_cert_expiration_timestamp_seconds 2000.0\n" in text
    assert 'control_identity_cert_refreshes_total{result="ok"} 1\n' in text
    assert 'control_identity_cert_refreshes_total{result="error"} 0\n' in text


def test_control_calls_are_counted_by_address_and_status() -> None:
    control = ControlMetrics()
    control.started('a"b:1')
    control.started('a"b:1')
    control.ended('a"b:1', "NOT_FOUND")
    text = exposition(IdentityMetrics(), control).decode()
    assert 'control_request_total{addr="a\\"b:1"} 2\n' in text
    assert 'control_response_total{addr="a\\"b:1",classification="failure",grpc_status="NOT_FOUND"} 1\n' in text
    assert 'weft_control_streams_open{addr="a\\"b:1"} 1\n' in text
    assert text.endswith("\n")
