"""Configuration files of the backend and of the peers that are configured by files: the least that does the same work.

A plain hop listens on the case's port plus OUT in the client pod; a pair gets what the kernel redirects to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.certs import CLIENT_NAME, SERVER_NAME
from bench.load import Case

OUT: Final = 10_000
ENVOY_PORT: Final = {"out": 4140, "in": 4143}
"""Where the redirect rules send connections."""
NGINX_CASES: Final = (Case.HTTP1, Case.GRPC)
"""nginx carries HTTP/2 to a backend only for gRPC, and TCP only with a module that the light package lacks."""


def _nginx_head(folder: Path, name: str) -> str:
    return f"""
user root;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.err warn;
events {{ worker_connections 8192; }}
"""


def backend(folder: Path, www: Path) -> str:
    """The application: a few bytes over HTTP/1 and HTTP/2, and a large file."""
    answer = 'location / { default_type text/plain; return 200 "hello from the backend\\n"; }'
    return f"""{_nginx_head(folder, "backend")}
http {{
  access_log off;
  keepalive_requests 100000000;
  sendfile on;
  server {{ listen {Case.HTTP1.port}; {answer} }}
  server {{ listen {Case.HTTP2.port} http2; http2_max_concurrent_streams 512; {answer} }}
  server {{ listen {Case.TCP.port}; root {www}; }}
}}
"""


def nginx_hop(folder: Path, server_ip: str) -> str:
    return f"""{_nginx_head(folder, "hop")}
daemon off;
master_process off;
http {{
  access_log off;
  keepalive_requests 100000000;
  upstream http1 {{ server {server_ip}:{Case.HTTP1.port}; keepalive 256; keepalive_requests 100000000; }}
  upstream grpc {{ server {server_ip}:{Case.GRPC.port}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen {Case.HTTP1.port + OUT};
    location / {{ proxy_pass http://http1; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
  server {{ listen {Case.GRPC.port + OUT} http2; location / {{ grpc_pass grpc://grpc; }} }}
}}
"""


def haproxy(server_ip: str) -> str:
    def proxy(case: Case, mode: str, options: str) -> str:
        return f"""
listen {case.value}
  mode {mode}
  bind 127.0.0.1:{case.port + OUT} {options}
  server one {server_ip}:{case.port} {options}
"""

    http2 = "proto h2"
    kinds = ((Case.HTTP1, "http", ""), (Case.HTTP2, "http", http2), (Case.GRPC, "http", http2), (Case.TCP, "tcp", ""))
    sections = "".join(proxy(*kind) for kind in kinds)
    return f"""
global
  nbthread 1
  maxconn 4096
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
{sections}
"""


def envoy(side: str, folder: Path, server_ip: str) -> dict[str, Any]:
    """One half of the pair: the outbound side originates mutual TLS, the inbound side ends it. What the kernel
    redirects comes in at one listener, which hands each connection to that of its port."""
    is_out = side == "out"
    listeners: list[dict[str, Any]] = [_capture(ENVOY_PORT[side])]
    clusters = []
    for case in Case:
        listener: dict[str, Any] = {
            "name": case.value,
            "address": _address("0.0.0.0", case.port),
            "bind_to_port": False,
            "filter_chains": [{"filters": [_tcp_proxy() if case is Case.TCP else _http_manager(case)]}],
        }
        cluster: dict[str, Any] = {
            "name": case.value,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": case.value, "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": _address(server_ip, case.port) if is_out else _address("127.0.0.1", case.port)}}]}]},
        }  # fmt: skip
        if case in (Case.HTTP2, Case.GRPC):
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            }
        if is_out:
            cluster["transport_socket"] = _tls(
                "UpstreamTlsContext", "client", SERVER_NAME, folder, {"sni": SERVER_NAME}
            )
        else:
            required = {"require_client_certificate": True}
            chain = listener["filter_chains"][0]
            chain["transport_socket"] = _tls("DownstreamTlsContext", "server", CLIENT_NAME, folder, required)
        listeners.append(listener)
        clusters.append(cluster)
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _capture(port: int) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
    return {
        "name": "capture",
        "address": _address("0.0.0.0", port),
        "use_original_dst": True,
        "listener_filters": [{"name": "original_dst", "typed_config": {"@type": kind}}],
        "filter_chains": [{"filters": [_tcp_proxy()]}],
    }


def _address(ip: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port}}


def _tcp_proxy() -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return {"name": "tcp", "typed_config": {"@type": kind, "stat_prefix": "tcp", "cluster": Case.TCP.value}}


def _http_manager(case: Case) -> dict[str, Any]:
    base = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": case.value, "timeout": "0s"}}
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{base}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": case.value,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{base}.http.router.v3.Router"}}],
        },
    }


def _tls(kind: str, own: str, peer: str, folder: Path, extra: dict[str, Any]) -> dict[str, Any]:
    def file(name: str) -> dict[str, str]:
        return {"filename": str(folder / name)}

    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file(f"{own}.crt"), "private_key": file(f"{own}.key")}],
        "validation_context": {
            "trusted_ca": file("ca.crt"),
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": peer}}],
        },
    }
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}",
            "common_tls_context": common,
            **extra,
        },
    }
