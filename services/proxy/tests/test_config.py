"""The environment as the injector writes it, and as people get it wrong."""

from pathlib import Path
from typing import Any

import pytest
from weft_proto.weft import engine_pb2
from weft_proxy import VERSION, config
from weft_proxy.core.engine_settings import engine_settings
from weft_proxy.core.settings import BackoffSettings, Settings, StreamLimits
from weft_proxy.core.values import DefaultPolicy
from weft_proxy.core.variables import VARIABLES

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture
def minimal(tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text("t")
    return {
        "LINKERD2_PROXY_IDENTITY_SVC_ADDR": "linkerd-identity-headless.linkerd.svc.cluster.local.:8080",
        "LINKERD2_PROXY_IDENTITY_SVC_NAME": "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local",
        "LINKERD2_PROXY_DESTINATION_SVC_ADDR": "localhost.:8086",
        "LINKERD2_PROXY_POLICY_SVC_ADDR": "127.0.0.1:8090",
        "LINKERD2_PROXY_POLICY_WORKLOAD": '{"ns":"shop","pod":"web-1"}',
        "LINKERD2_PROXY_IDENTITY_DIR": str(tmp_path),
        "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": str(token),
        "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": PEM,
        "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": "web.shop.serviceaccount.identity.linkerd.cluster.local",
    }


def read(environ: dict[str, str], **more: str) -> Settings:
    return config.read_settings({**environ, **{f"LINKERD2_PROXY_{k}": v for k, v in more.items()}}, cpus=4)


def mistakes(environ: dict[str, str], **more: str) -> set[str]:
    with pytest.raises(config.ConfigError) as caught:
        read(environ, **more)
    return {m.variable.removeprefix("LINKERD2_PROXY_") for m in caught.value.mistakes}


def test_minimal_environment_gets_the_documented_defaults(minimal: dict[str, str]) -> None:
    settings = read(minimal)
    assert str(settings.inbound.listen) == "0.0.0.0:4143"
    assert [str(a) for a in settings.outbound.listen] == ["127.0.0.1:4140"]
    assert str(settings.admin_listen) == "127.0.0.1:4191"
    assert settings.inbound.default_policy is DefaultPolicy.ALL_UNAUTHENTICATED
    assert settings.inbound.side.backoff == BackoffSettings(100, 10_000, 0.1)
    assert settings.outbound.side.backoff == BackoffSettings(100, 60_000, 0.1)
    assert settings.discovery.stream_limits == StreamLimits(None, None, None)
    assert settings.worker_threads == 1
    assert settings.shutdown_grace_ms == 120_000
    assert settings.destination_service.server_name == ""
    assert settings.identity_service.server_name.startswith("linkerd-identity.")


def test_environment_of_the_injector_is_read_whole(minimal: dict[str, str]) -> None:
    settings = read(
        minimal,
        OUTBOUND_LISTEN_ADDRS="127.0.0.1:4140,[::1]:4140",
        INBOUND_LISTEN_ADDR="[::]:4143",
        INBOUND_PORTS="8080,9090",
        INBOUND_IPS="10.1.2.3,fd00::1",
        INBOUND_DETECT_TIMEOUT="365d",
        INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION="25,3306,4567-4568",
        DESTINATION_PROFILE_NETWORKS="10.0.0.0/8,fd00::/8",
        DESTINATION_PROFILE_SUFFIXES="svc.one.,svc.two.",
        DESTINATION_PROFILE_INITIAL_TIMEOUT="2s",
        CONTROL_STREAM_INITIAL_TIMEOUT="3s",
        CONTROL_STREAM_IDLE_TIMEOUT="5m",
        CONTROL_STREAM_LIFETIME="1h",
        INBOUND_ACCEPT_KEEPALIVE="10000ms",
        INGRESS_MODE="true",
        CORES_MIN="1",
        CORES_MAX_RATIO="0.5",
        OUTBOUND_CONNECT_EXP_BACKOFF_MIN="1s",
        OUTBOUND_CONNECT_EXP_BACKOFF_MAX="2s",
        LOG_FORMAT="json",
    )
    message = engine_settings(settings, settings.identity.trust_anchors_pem, {"version": VERSION})
    assert [a.port for a in message.outbound_listen] == [4140, 4140]
    assert message.inbound_detect_timeout_ms == 0xFFFF_FFFF
    assert [(p.first, p.last) for p in message.inbound_opaque_ports] == [(25, 25), (3306, 3306), (4567, 4568)]
    assert list(message.inbound_ports) == [8080, 9090]
    assert (list(message.inbound_profile_suffixes), message.inbound_profile_wait_ms) == (["svc.one.", "svc.two."], 2000)
    assert not message.informational_headers
    assert message.worker_threads == 2
    assert message.inbound_accept_keepalive.keepalive_ms == 10_000
    assert (message.outbound_connect_backoff.min_ms, message.outbound_connect_backoff.jitter_ratio) == (1000, 0.0)
    assert [c.address for c in message.control_services][1:] == ["localhost.:8086", "127.0.0.1:8090"]
    assert settings.log_json


@pytest.mark.parametrize(
    ("name", "field", "value", "default", "meaning"),
    [
        ("INBOUND_TCP_LISTEN_BACKLOG", "inbound_listen_backlog", "7", 0, 7),
        ("OUTBOUND_TCP_LISTEN_BACKLOG", "outbound_listen_backlog", "7", 0, 7),
        ("INBOUND_ACCEPT_KEEPALIVE", "inbound_accept_keepalive.keepalive_ms", "7s", 0, 7000),
        ("INBOUND_ACCEPT_USER_TIMEOUT", "inbound_accept_keepalive.user_timeout_ms", "7s", 0, 7000),
        ("INBOUND_CONNECT_KEEPALIVE", "inbound_connect_keepalive.keepalive_ms", "7s", 0, 7000),
        ("INBOUND_CONNECT_USER_TIMEOUT", "inbound_connect_keepalive.user_timeout_ms", "7s", 0, 7000),
        ("OUTBOUND_ACCEPT_KEEPALIVE", "outbound_accept_keepalive.keepalive_ms", "7s", 0, 7000),
        ("OUTBOUND_ACCEPT_USER_TIMEOUT", "outbound_accept_keepalive.user_timeout_ms", "7s", 0, 7000),
        ("OUTBOUND_CONNECT_KEEPALIVE", "outbound_connect_keepalive.keepalive_ms", "7s", 0, 7000),
        ("OUTBOUND_CONNECT_USER_TIMEOUT", "outbound_connect_keepalive.user_timeout_ms", "7s", 0, 7000),
        ("INBOUND_CONNECT_TIMEOUT", "inbound_connect_timeout_ms", "7s", 300, 7000),
        ("OUTBOUND_CONNECT_TIMEOUT", "outbound_connect_timeout_ms", "7s", 1000, 7000),
        ("INBOUND_DETECT_TIMEOUT", "inbound_detect_timeout_ms", "7s", 10_000, 7000),
        ("OUTBOUND_DETECT_TIMEOUT", "outbound_detect_timeout_ms", "7s", 10_000, 7000),
        ("INBOUND_DISCOVERY_IDLE_TIMEOUT", "inbound_discovery_idle_ms", "7s", 90_000, 7000),
        ("OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "outbound_discovery_idle_ms", "7s", 5_000, 7000),
        ("OUTBOUND_HTTP_QUEUE_CAPACITY", "outbound_queue.capacity", "7", 10_000, 7),
        ("OUTBOUND_HTTP_FAILFAST_TIMEOUT", "outbound_queue.failfast_ms", "7s", 3_000, 7000),
        ("OUTBOUND_TCP_QUEUE_CAPACITY", "outbound_tcp_queue.capacity", "7", 10_000, 7),
        ("OUTBOUND_TCP_FAILFAST_TIMEOUT", "outbound_tcp_queue.failfast_ms", "7s", 3_000, 7000),
        ("INBOUND_MAX_IN_FLIGHT", "inbound_max_in_flight", "7", 100_000, 7),
        ("OUTBOUND_MAX_IN_FLIGHT", "outbound_max_in_flight", "7", 100_000, 7),
        ("MAX_IDLE_CONNS_PER_ENDPOINT", "inbound_max_idle_conns", "7", 10_000, 7),
        ("OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT", "max_idle_conns_per_endpoint", "7", 10_000, 7),
        ("INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", "inbound_http1_pool_idle_ms", "7s", 3_000, 7000),
        ("OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", "http1_pool_idle_ms", "7s", 3_000, 7000),
        ("HTTP2_INITIAL_STREAM_WINDOW_SIZE", "http2_initial_stream_window", "70000", 65_535, 70_000),
        ("HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", "http2_initial_connection_window", "70000", 1_048_576, 70_000),
        ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "inbound_server_http2.keep_alive_interval_ms", "7s", 0, 7000),
        ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "inbound_server_http2.keep_alive_timeout_ms", "7s", 0, 7000),
        ("INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS", "inbound_server_http2.max_concurrent_streams", "7", 0, 7),
        ("OUTBOUND_SERVER_HTTP2_MAX_FRAME_SIZE", "outbound_server_http2.max_frame_size", "20000", 0, 20_000),
        ("OUTBOUND_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL", "outbound_server_http2.adaptive_flow_control", "true", 0, 1),
        ("METRICS_RETAIN_IDLE", "metrics_retain_idle_ms", "7s", 600_000, 7000),
        ("OUTBOUND_METRICS_HOSTNAME_LABELS", "outbound_metrics_hostname_labels", "true", 0, 1),
        ("INBOUND_METRICS_AUTHORITY_LABELS", "inbound_metrics_authority_labels", "unsafe", 0, 1),
        ("INGRESS_MODE", "ingress_mode", "true", 0, 1),
        ("INGRESS_MODE", "informational_headers", "true", 1, 0),
        ("OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", "informational_headers", "true", 1, 0),
    ],
)
def test_a_variable_reaches_the_engine_as_what_it_means(
    minimal: dict[str, str], name: str, field: str, value: str, default: int, meaning: int
) -> None:
    def told(settings: Settings) -> int:
        found: Any = engine_settings(settings, settings.identity.trust_anchors_pem, {})
        for part in field.split("."):
            found = getattr(found, part)
        return int(found)

    assert (told(read(minimal)), told(read(minimal, **{name: value}))) == (default, meaning)


class Asked(dict[str, str]):
    """An environment that knows what was asked of it."""

    def __init__(self, environ: dict[str, str]) -> None:
        super().__init__(environ)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_only_variables_that_say_so_are_not_used(minimal: dict[str, str]) -> None:
    name = minimal["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"]
    first = Asked(
        {**minimal, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR": "localhost.:4317", "LINKERD2_PROXY_TAP_SVC_NAME": "tap"}
    )
    # The other way to say who the proxy is.
    second = Asked({**minimal, **{f"LINKERD2_PROXY_IDENTITY_SERVER_{part}": name for part in ("ID", "NAME")}})
    del second["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"]
    for environ in (first, second):
        config.read_settings(environ, cpus=4)
    unused = {variable.name for variable in VARIABLES if variable.full_name not in first.names | second.names}
    said = {
        "INBOUND_PORTS_REQUIRE_IDENTITY",
        "INBOUND_PORTS_REQUIRE_TLS",
        "TRACE_ANNOTATIONS_PATH",
        "TRACE_PROTOCOL",
        "DNS_MIN_TTL",
        "DNS_MAX_TTL",
    }
    assert unused <= said


def test_every_mistake_is_reported_in_one_run(minimal: dict[str, str]) -> None:
    minimal["LINKERD2_PROXY_IDENTITY_SVC_NAME"] = ""
    del minimal["LINKERD2_PROXY_POLICY_WORKLOAD"]
    found = mistakes(minimal, INBOUND_LISTEN_ADDR="4143", OUTBOUND_CONNECT_TIMEOUT="10", LOG="x=loud", LOG_FORMAT="xml")
    assert found == {
        "IDENTITY_SVC_NAME",
        "POLICY_WORKLOAD",
        "INBOUND_LISTEN_ADDR",
        "OUTBOUND_CONNECT_TIMEOUT",
        "LOG",
        "LOG_FORMAT",
    }


def test_empty_environment_names_what_is_needed() -> None:
    assert mistakes({}) == {
        "IDENTITY_SVC_ADDR",
        "DESTINATION_SVC_ADDR",
        "POLICY_SVC_ADDR",
        "POLICY_WORKLOAD",
        "IDENTITY_DIR",
        "IDENTITY_TOKEN_FILE",
        "IDENTITY_TRUST_ANCHORS",
        "IDENTITY_LOCAL_NAME",
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INBOUND_DEFAULT_POLICY", "cluster-authenticated"),
        ("INBOUND_DEFAULT_POLICY", "audit"),
    ],
)
def test_cluster_policies_need_the_cluster_networks(minimal: dict[str, str], variable: str, value: str) -> None:
    assert mistakes(minimal, **{variable: value}) == {"POLICY_CLUSTER_NETWORKS"}
    assert read(minimal, POLICY_CLUSTER_NETWORKS="10.0.0.0/8", **{variable: value})


def test_stream_limits_must_not_decrease(minimal: dict[str, str]) -> None:
    assert mistakes(minimal, CONTROL_STREAM_INITIAL_TIMEOUT="3s", CONTROL_STREAM_LIFETIME="1s") == {
        "CONTROL_STREAM_LIFETIME"
    }


def test_backoff_bounds_come_together(minimal: dict[str, str]) -> None:
    assert mistakes(minimal, INBOUND_CONNECT_EXP_BACKOFF_MIN="1s") == {"INBOUND_CONNECT_EXP_BACKOFF_MAX"}
    assert mistakes(minimal, INBOUND_CONNECT_EXP_BACKOFF_JITTER="0.3") == {"INBOUND_CONNECT_EXP_BACKOFF_JITTER"}


def test_token_must_exist_and_hold_something(minimal: dict[str, str], tmp_path: Path) -> None:
    assert mistakes(minimal, IDENTITY_TOKEN_FILE=str(tmp_path / "absent")) == {"IDENTITY_TOKEN_FILE"}
    (tmp_path / "token").write_text("\n")
    assert mistakes(minimal) == {"IDENTITY_TOKEN_FILE"}


def test_identity_may_be_given_as_server_id_and_name(minimal: dict[str, str]) -> None:
    del minimal["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"]
    assert read(minimal, IDENTITY_SERVER_ID="a", IDENTITY_SERVER_NAME="a").identity.local_name == "a"
    assert mistakes(minimal, IDENTITY_SERVER_ID="a", IDENTITY_SERVER_NAME="b") == {"IDENTITY_SERVER_NAME"}


def test_unsupported_identities_are_refused(minimal: dict[str, str]) -> None:
    assert mistakes(minimal, IDENTITY_DISABLED="true", IDENTITY_SPIRE_SOCKET="unix:///x") == {
        "IDENTITY_DISABLED",
        "IDENTITY_SPIRE_SOCKET",
    }


def test_path_instead_of_trust_anchors_is_noticed(minimal: dict[str, str]) -> None:
    assert mistakes(minimal, IDENTITY_TRUST_ANCHORS="/etc/ca.pem") == {"IDENTITY_TRUST_ANCHORS"}


@pytest.mark.parametrize(
    ("more", "workers"),
    [({}, 1), ({"CORES": "2"}, 2), ({"CORES_MAX": "3"}, 3), ({"CORES_MAX": "64"}, 4), ({"CORES_MAX_RATIO": "0.1"}, 1)],
)
def test_workers_stay_between_one_and_the_cpus(minimal: dict[str, str], more: dict[str, str], workers: int) -> None:
    assert read(minimal, **more).worker_threads == workers


def test_misspelt_variables_are_found(minimal: dict[str, str]) -> None:
    assert config.unknown_variables(minimal) == []
    assert config.unknown_variables({**minimal, "LINKERD2_PROXY_LOGG": "x"}) == ["LINKERD2_PROXY_LOGG"]


def test_table_names_each_variable_once() -> None:
    names = [v.name for v in VARIABLES]
    assert len(names) == len(set(names))


def test_a_tap_client_opens_the_tap_port(minimal: dict[str, str]) -> None:
    assert read(minimal).tap is None
    settings = read(minimal, TAP_SVC_NAME="metrics-api.linkerd-viz", CONTROL_LISTEN_ADDR="0.0.0.0:4190")
    message = engine_settings(settings, PEM, {})
    assert (message.tap_client, message.tap_listen.port) == ("metrics-api.linkerd-viz", 4190)
    assert not engine_settings(read(minimal), PEM, {}).HasField("tap_listen")


def test_the_access_log_has_two_forms(minimal: dict[str, str]) -> None:
    assert engine_settings(read(minimal), PEM, {}).access_log == engine_pb2.OFF
    assert engine_settings(read(minimal, ACCESS_LOG="json"), PEM, {}).access_log == engine_pb2.JSON
    assert mistakes(minimal, ACCESS_LOG="combined") == {"ACCESS_LOG"}


def test_a_trace_collector_is_one_more_tunnel_and_later_attributes_win(minimal: dict[str, str]) -> None:
    assert not engine_settings(read(minimal), PEM, {}).trace
    settings = read(
        {**minimal, "OTEL_RESOURCE_ATTRIBUTES": "a=standard,c=3"},
        TRACE_COLLECTOR_SVC_ADDR="collector.obs.svc.cluster.local.:4317",
        TRACE_COLLECTOR_SVC_NAME="collector.obs",
        TRACE_EXTRA_ATTRIBUTES="a=extra\nb=2",
    )
    assert settings.trace is not None
    assert dict(settings.trace.attributes) == {"a": "standard", "b": "2", "c": "3"}
    assert settings.trace.service_name == "linkerd-proxy"
    message = engine_settings(settings, PEM, {})
    assert message.trace
    assert [service.name for service in message.control_services][-1] == "opentelemetry"
    assert mistakes(minimal, TRACE_COLLECTOR_SVC_ADDR="collector.obs:4317") == {"TRACE_COLLECTOR_SVC_NAME"}
