"""Settings to the engine's message: the one place that knows both vocabularies."""

from weft_proto.weft import engine_pb2

from weft_proxy.core.addresses import ip_to_message, socket_addr_to_message
from weft_proxy.core.inbound_policy import default_server
from weft_proxy.core.settings import BackoffSettings, Http2Settings, KeepAlive, QueueSettings, Settings
from weft_proxy.core.values import AccessLogFormat

MAX_HEADER_BYTES = 64 * 1024
"""Longest request head; no Linkerd variable sets it. Four times what common servers accept, small enough to hold."""


_ACCESS_LOG = {
    None: engine_pb2.OFF,
    AccessLogFormat.APACHE: engine_pb2.APACHE,
    AccessLogFormat.JSON: engine_pb2.JSON,
}


def engine_settings(settings: Settings, trust_anchors_pem: str, build_info: dict[str, str]) -> engine_pb2.Settings:
    """trust_anchors_pem: the bundle to begin with. build_info: labels of proxy_build_info."""
    inbound, outbound = settings.inbound, settings.outbound
    return engine_pb2.Settings(
        local_identity=settings.identity.local_name,
        trust_anchors_pem=trust_anchors_pem,
        outbound_listen=[socket_addr_to_message(addr) for addr in outbound.listen],
        inbound_listen=socket_addr_to_message(inbound.listen),
        admin_listen=socket_addr_to_message(settings.admin_listen),
        inbound_ips=[ip_to_message(ip) for ip in inbound.ips],
        control_services=[
            engine_pb2.ControlService(name=s.name, address=s.address.text, server_name=s.server_name)
            for s in settings.tunnels
        ],
        inbound_default=default_server(
            inbound.default_policy, inbound.cluster_networks, inbound.side.detect_timeout_ms, opaque=False
        ),
        inbound_default_opaque=default_server(
            inbound.default_policy, inbound.cluster_networks, inbound.side.detect_timeout_ms, opaque=True
        ),
        inbound_opaque_ports=[engine_pb2.PortRange(first=p.first, last=p.last) for p in inbound.opaque_ports],
        inbound_connect_timeout_ms=inbound.side.connect_timeout_ms,
        outbound_connect_timeout_ms=outbound.side.connect_timeout_ms,
        inbound_detect_timeout_ms=_u32(inbound.side.detect_timeout_ms),
        outbound_detect_timeout_ms=_u32(outbound.side.detect_timeout_ms),
        inbound_discovery_idle_ms=_u32(inbound.side.discovery_idle_ms),
        outbound_discovery_idle_ms=_u32(outbound.side.discovery_idle_ms),
        inbound_connect_backoff=_backoff(inbound.side.backoff),
        outbound_connect_backoff=_backoff(outbound.side.backoff),
        http1_pool_idle_ms=_u32(outbound.side.http1_pool_idle_ms),
        max_idle_conns_per_endpoint=outbound.side.max_idle_conns_per_endpoint,
        inbound_http1_pool_idle_ms=_u32(inbound.side.http1_pool_idle_ms),
        inbound_max_idle_conns=inbound.side.max_idle_conns_per_endpoint,
        outbound_queue=_queue(outbound.side.queue),
        outbound_tcp_queue=_queue(outbound.tcp_queue),
        inbound_queue=_queue(inbound.side.queue),
        outbound_max_in_flight=outbound.side.max_in_flight,
        inbound_max_in_flight=inbound.side.max_in_flight,
        inbound_accept_keepalive=_keepalive(inbound.side.accept_keepalive),
        outbound_connect_keepalive=_keepalive(outbound.side.connect_keepalive),
        inbound_connect_keepalive=_keepalive(inbound.side.connect_keepalive),
        outbound_accept_keepalive=_keepalive(outbound.side.accept_keepalive),
        inbound_listen_backlog=inbound.side.listen_backlog,
        outbound_listen_backlog=outbound.side.listen_backlog,
        inbound_server_http2=_http2(inbound.side.server_http2),
        outbound_server_http2=_http2(outbound.side.server_http2),
        http2_initial_stream_window=settings.http2_stream_window,
        http2_initial_connection_window=settings.http2_connection_window,
        worker_threads=settings.worker_threads,
        metrics_retain_idle_ms=_u32(settings.metrics_retain_idle_ms),
        informational_headers=outbound.informational_headers,
        outbound_metrics_hostname_labels=outbound.hostname_labels,
        inbound_metrics_authority_labels=inbound.authority_labels,
        inbound_remote_ip_header=inbound.remote_ip_header,
        inbound_ports=inbound.ports,
        ingress_mode=outbound.ingress_mode,
        inbound_gateway_suffixes=inbound.gateway_suffixes,
        inbound_profile_suffixes=settings.discovery.profile_suffixes,
        inbound_profile_wait_ms=_u32(settings.discovery.inbound_profile_wait_ms),
        max_header_bytes=MAX_HEADER_BYTES,
        build_info=build_info,
        tap_listen=socket_addr_to_message(settings.tap.listen) if settings.tap else None,
        tap_client=settings.tap.client if settings.tap else "",
        access_log=_ACCESS_LOG[settings.access_log],
        trace=settings.trace is not None,
    )


def _u32(milliseconds: int) -> int:
    # The injector writes 365d to mean "never"; 32 bits hold 49 days, which is never enough here.
    return min(milliseconds, 0xFFFF_FFFF)


def _backoff(backoff: BackoffSettings) -> engine_pb2.Backoff:
    return engine_pb2.Backoff(
        min_ms=_u32(backoff.min_ms), max_ms=_u32(backoff.max_ms), jitter_ratio=backoff.jitter_ratio
    )


def _queue(queue: QueueSettings) -> engine_pb2.Queue:
    return engine_pb2.Queue(capacity=queue.capacity, failfast_ms=_u32(queue.failfast_ms))


def _keepalive(keepalive: KeepAlive) -> engine_pb2.KeepAlive:
    return engine_pb2.KeepAlive(
        keepalive_ms=_u32(keepalive.keepalive_ms or 0), user_timeout_ms=_u32(keepalive.user_timeout_ms or 0)
    )


def _http2(http2: Http2Settings) -> engine_pb2.Http2:
    return engine_pb2.Http2(
        keep_alive_interval_ms=_u32(http2.keep_alive_interval_ms),
        keep_alive_timeout_ms=_u32(http2.keep_alive_timeout_ms),
        initial_stream_window=http2.initial_stream_window,
        initial_connection_window=http2.initial_connection_window,
        adaptive_flow_control=http2.adaptive_flow_control,
        max_concurrent_streams=http2.max_concurrent_streams,
        max_frame_size=http2.max_frame_size,
        max_header_list_size=http2.max_header_list_size,
        max_pending_accept_reset_streams=http2.max_pending_accept_reset_streams,
        max_send_buf_size=http2.max_send_buf_size,
    )
