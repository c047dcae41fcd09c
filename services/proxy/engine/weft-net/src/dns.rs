//! Finds the addresses of a control-plane service: SRV first, then A and AAAA. Names on this host skip both.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hickory_resolver::{Resolver, TokioResolver, name_server::TokioConnectionProvider, proto::rr::RData};
use weft_core::{metrics::Labels, settings::ControlService};

use crate::metrics::Metrics;

pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Reads the host's resolver configuration.
    pub fn new() -> io::Result<Self> {
        let builder = Resolver::builder(TokioConnectionProvider::default());
        let resolver = builder.map_err(|e| io::Error::other(format!("resolver configuration: {e}")))?.build();
        Ok(Self { resolver })
    }

    /// At least one address, in the order to try them.
    pub async fn resolve(&self, service: &ControlService, metrics: &Metrics) -> io::Result<Vec<SocketAddr>> {
        let count = |record_type: &str, found: bool| {
            let labels = Labels::default()
                .with("client", &service.name)
                .with("record_type", record_type)
                .with("result", if found { "ok" } else { "not_found" });
            metrics.dns.series(&labels).incr();
        };
        if let Ok(ip) = service.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, service.port)]);
        }
        if service.host.trim_end_matches('.') == "localhost" {
            return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), service.port)]);
        }
        let by_srv = self.by_srv(service).await;
        count("SRV", !by_srv.is_empty());
        if !by_srv.is_empty() {
            return Ok(by_srv);
        }
        let found = self.resolver.lookup_ip(service.host.as_str()).await;
        count("A/AAAA", found.is_ok());
        let found = found.map_err(|e| io::Error::new(io::ErrorKind::NotFound, format!("{}: {e}", service.host)))?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, service.port)).collect())
    }

    /// A Service with several ports answers with all of them; only the one we want counts.
    async fn by_srv(&self, service: &ControlService) -> Vec<SocketAddr> {
        let Ok(answers) = self.resolver.srv_lookup(service.host.as_str()).await else {
            return Vec::new();
        };
        let records: Vec<_> = answers
            .as_lookup()
            .records()
            .iter()
            .filter_map(|record| match record.data() {
                RData::SRV(srv) if srv.port() == service.port => Some(srv.clone()),
                _ => None,
            })
            .collect();
        let mut found = Vec::with_capacity(records.len());
        for srv in records {
            if let Ok(ips) = self.resolver.lookup_ip(srv.target().to_utf8()).await {
                found.extend(ips.iter().map(|ip| SocketAddr::new(ip, service.port)));
            }
        }
        found
    }
}
