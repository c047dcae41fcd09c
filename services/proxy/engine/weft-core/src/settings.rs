//! Settings of the process, checked once and turned into the types the data path uses.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use weft_proto::engine as wire;

use crate::{access_log::AccessLogFormat, addr, backoff::Backoff, inbound::ServerPolicy};

#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAliveSettings {
    pub keepalive: Option<Duration>,
    pub user_timeout: Option<Duration>,
}

/// How many wait for an endpoint, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    pub capacity: usize,
    pub failfast: Duration,
}

pub struct ControlService {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// None: no TLS.
    pub server_name: Option<String>,
}

pub struct Settings {
    pub local_identity: String,
    pub trust_anchors_pem: String,
    pub outbound_listen: Vec<SocketAddr>,
    pub inbound_listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub inbound_ips: Vec<IpAddr>,
    pub control_services: Vec<ControlService>,
    pub inbound_default: Arc<ServerPolicy>,
    pub inbound_default_opaque: Arc<ServerPolicy>,
    pub inbound_opaque_ports: Vec<(u16, u16)>,
    pub inbound_ports: Vec<u16>,
    /// Not empty: this proxy is a gateway to names under these.
    pub inbound_gateway_suffixes: Vec<String>,
    /// Names under these have profiles, which label inbound metrics.
    pub inbound_profile_suffixes: Vec<String>,
    /// How long requests wait for the profile of a name that is new.
    pub inbound_profile_wait: Duration,
    pub inbound_connect_timeout: Duration,
    pub outbound_connect_timeout: Duration,
    pub inbound_detect_timeout: Duration,
    pub outbound_detect_timeout: Duration,
    pub inbound_discovery_idle: Duration,
    pub outbound_discovery_idle: Duration,
    pub outbound_connect_backoff: Backoff,
    pub http1_pool_idle: Duration,
    pub max_idle_conns_per_endpoint: usize,
    pub inbound_http1_pool_idle: Duration,
    pub inbound_max_idle_conns: usize,
    /// Of requests.
    pub outbound_queue: QueueSettings,
    /// Of connections that stay bytes.
    pub outbound_tcp_queue: QueueSettings,
    pub outbound_max_in_flight: usize,
    pub inbound_max_in_flight: usize,
    pub inbound_accept_keepalive: KeepAliveSettings,
    pub outbound_connect_keepalive: KeepAliveSettings,
    pub inbound_connect_keepalive: KeepAliveSettings,
    pub outbound_accept_keepalive: KeepAliveSettings,
    pub inbound_listen_backlog: u32,
    pub outbound_listen_backlog: u32,
    pub inbound_server_http2: wire::Http2,
    pub outbound_server_http2: wire::Http2,
    pub http2_initial_stream_window: u32,
    pub http2_initial_connection_window: u32,
    pub worker_threads: usize,
    pub metrics_retain_idle: Duration,
    /// Requests go where `l5d-dst-override` says.
    pub ingress_mode: bool,
    pub informational_headers: bool,
    pub outbound_metrics_hostname_labels: bool,
    pub inbound_metrics_authority_labels: bool,
    pub inbound_remote_ip_header: bool,
    pub max_header_bytes: usize,
    pub build_info: Vec<(String, String)>,
    /// None: no tap.
    pub tap_listen: Option<SocketAddr>,
    pub tap_client: String,
    pub access_log: Option<AccessLogFormat>,
    pub trace: bool,
}

const BACKLOG: usize = 1024;

fn ms_or(value: u32, default_ms: u64) -> Duration {
    Duration::from_millis(if value == 0 { default_ms } else { u64::from(value) })
}

fn ports_from(ports: &[u32], field: &str) -> Result<Vec<u16>, String> {
    ports.iter().map(|p| u16::try_from(*p).map_err(|_| format!("{field}: {p} is not a port (0 to 65535)"))).collect()
}

impl Settings {
    /// Errors name the field, so that the Python side can say which setting was wrong.
    pub fn from_wire(s: &wire::Settings) -> Result<Self, String> {
        let listen = |addr: Option<&weft_proto::linkerd::net::TcpAddress>, field: &str| {
            addr::socket_from(addr).ok_or_else(|| format!("{field}: missing or not an address with a port"))
        };
        if s.local_identity.is_empty() {
            return Err("local_identity: empty, expected the DNS name of this workload".to_owned());
        }
        let policy = |server: Option<&weft_proto::linkerd::inbound::Server>, field: &str| match server {
            Some(server) => {
                ServerPolicy::from_wire(server).map(Arc::new).map_err(|reason| format!("{field}: {reason}"))
            }
            None => Err(format!("{field}: missing")),
        };
        let ips = s.inbound_ips.iter().map(addr::ip_from).collect::<Option<Vec<_>>>();
        let ranges = s.inbound_opaque_ports.iter().map(|range| {
            let ends = ports_from(&[range.first, range.last], "inbound_opaque_ports")?;
            Ok::<_, String>((ends[0], ends[1]))
        });
        let backoff = s.outbound_connect_backoff.unwrap_or_default();
        Ok(Self {
            local_identity: s.local_identity.clone(),
            trust_anchors_pem: s.trust_anchors_pem.clone(),
            outbound_listen: s
                .outbound_listen
                .iter()
                .map(|addr| listen(Some(addr), "outbound_listen"))
                .collect::<Result<_, _>>()?,
            inbound_listen: listen(s.inbound_listen.as_ref(), "inbound_listen")?,
            admin_listen: listen(s.admin_listen.as_ref(), "admin_listen")?,
            inbound_ips: ips.ok_or("inbound_ips: an entry is empty")?,
            control_services: s.control_services.iter().map(control_service).collect::<Result<_, _>>()?,
            inbound_default: policy(s.inbound_default.as_ref(), "inbound_default")?,
            inbound_default_opaque: policy(s.inbound_default_opaque.as_ref(), "inbound_default_opaque")?,
            inbound_opaque_ports: ranges.collect::<Result<_, _>>()?,
            inbound_ports: ports_from(&s.inbound_ports, "inbound_ports")?,
            inbound_gateway_suffixes: s.inbound_gateway_suffixes.clone(),
            inbound_profile_suffixes: s.inbound_profile_suffixes.clone(),
            inbound_profile_wait: Duration::from_millis(u64::from(s.inbound_profile_wait_ms)),
            inbound_connect_timeout: ms_or(s.inbound_connect_timeout_ms, 300),
            outbound_connect_timeout: ms_or(s.outbound_connect_timeout_ms, 300),
            inbound_detect_timeout: ms_or(s.inbound_detect_timeout_ms, 10_000),
            outbound_detect_timeout: ms_or(s.outbound_detect_timeout_ms, 10_000),
            inbound_discovery_idle: ms_or(s.inbound_discovery_idle_ms, 90_000),
            outbound_discovery_idle: ms_or(s.outbound_discovery_idle_ms, 5_000),
            outbound_connect_backoff: Backoff {
                min: ms_or(backoff.min_ms, 100),
                max: ms_or(backoff.max_ms, 60_000),
                jitter_ratio: backoff.jitter_ratio.clamp(0.0, 100.0),
            },
            http1_pool_idle: ms_or(s.http1_pool_idle_ms, 3_000),
            max_idle_conns_per_endpoint: or(s.max_idle_conns_per_endpoint, 10_000),
            inbound_http1_pool_idle: ms_or(s.inbound_http1_pool_idle_ms, 3_000),
            inbound_max_idle_conns: or(s.inbound_max_idle_conns, 10_000),
            outbound_queue: queue(s.outbound_queue),
            outbound_tcp_queue: queue(s.outbound_tcp_queue),
            outbound_max_in_flight: or(s.outbound_max_in_flight, 100_000),
            inbound_max_in_flight: or(s.inbound_max_in_flight, 100_000),
            inbound_accept_keepalive: keep_alive(s.inbound_accept_keepalive),
            outbound_connect_keepalive: keep_alive(s.outbound_connect_keepalive),
            inbound_connect_keepalive: keep_alive(s.inbound_connect_keepalive),
            outbound_accept_keepalive: keep_alive(s.outbound_accept_keepalive),
            inbound_listen_backlog: or(s.inbound_listen_backlog, BACKLOG) as u32,
            outbound_listen_backlog: or(s.outbound_listen_backlog, BACKLOG) as u32,
            inbound_server_http2: s.inbound_server_http2.unwrap_or_default(),
            outbound_server_http2: s.outbound_server_http2.unwrap_or_default(),
            http2_initial_stream_window: or(s.http2_initial_stream_window, 65_535) as u32,
            http2_initial_connection_window: or(s.http2_initial_connection_window, 1_048_576) as u32,
            worker_threads: or(s.worker_threads, 1),
            metrics_retain_idle: ms_or(s.metrics_retain_idle_ms, 600_000),
            ingress_mode: s.ingress_mode,
            informational_headers: s.informational_headers,
            outbound_metrics_hostname_labels: s.outbound_metrics_hostname_labels,
            inbound_metrics_authority_labels: s.inbound_metrics_authority_labels,
            inbound_remote_ip_header: s.inbound_remote_ip_header,
            max_header_bytes: or(s.max_header_bytes, 64 * 1024),
            build_info: {
                let mut info: Vec<_> = s.build_info.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                info.sort();
                info
            },
            tap_listen: s.tap_listen.as_ref().map(|addr| listen(Some(addr), "tap_listen")).transpose()?,
            tap_client: s.tap_client.clone(),
            access_log: match s.access_log() {
                wire::AccessLogFormat::Off => None,
                wire::AccessLogFormat::Apache => Some(AccessLogFormat::Apache),
                wire::AccessLogFormat::Json => Some(AccessLogFormat::Json),
            },
            trace: s.trace,
        })
    }

    pub fn is_opaque_port(&self, port: u16) -> bool {
        self.inbound_opaque_ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

fn or(value: u32, default: usize) -> usize {
    if value == 0 { default } else { value as usize }
}

fn queue(queue: Option<wire::Queue>) -> QueueSettings {
    let queue = queue.unwrap_or_default();
    QueueSettings { capacity: or(queue.capacity, 10_000), failfast: ms_or(queue.failfast_ms, 3_000) }
}

fn keep_alive(k: Option<wire::KeepAlive>) -> KeepAliveSettings {
    let k = k.unwrap_or_default();
    let some = |ms: u32| (ms > 0).then(|| Duration::from_millis(u64::from(ms)));
    KeepAliveSettings { keepalive: some(k.keepalive_ms), user_timeout: some(k.user_timeout_ms) }
}

fn control_service(service: &wire::ControlService) -> Result<ControlService, String> {
    let complaint = || format!("control_services: {:?} is not host:port", service.address);
    let (host, port) = service.address.rsplit_once(':').ok_or_else(complaint)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(complaint)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let ip: Option<IpAddr> = host.parse().ok();
    let is_loopback = ip.is_some_and(|ip| ip.is_loopback()) || host.trim_end_matches('.') == "localhost";
    if service.server_name.is_empty() && !is_loopback {
        return Err(format!("control_services: {} needs a server name, it is not on this host", service.address));
    }
    let server_name = (!is_loopback).then(|| service.server_name.clone());
    Ok(ControlService { name: service.name.clone(), host, port, server_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_field() {
        let error = Settings::from_wire(&wire::Settings::default()).err().unwrap();
        assert!(error.starts_with("local_identity: "), "{error}");
        let settings = wire::Settings { local_identity: "a.b".into(), ..Default::default() };
        let error = Settings::from_wire(&settings).err().unwrap();
        assert!(error.starts_with("inbound_listen: "), "{error}");
    }

    #[test]
    fn loopback_control_services_go_without_tls() {
        let service = |address: &str, server_name: &str| {
            control_service(&wire::ControlService {
                name: "identity".into(),
                address: address.into(),
                server_name: server_name.into(),
            })
        };
        assert_eq!(service("localhost.:8080", "x").unwrap().server_name, None);
        assert_eq!(service("[::1]:8080", "").unwrap().host, "::1");
        assert_eq!(service("dst.svc.:8086", "dst").unwrap().server_name.as_deref(), Some("dst"));
        assert!(service("dst.svc:8086", "").is_err());
        assert!(service("dst.svc", "dst").is_err());
    }
}
