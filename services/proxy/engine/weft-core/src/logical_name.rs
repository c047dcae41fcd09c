//! Logical destinations as requests name them: `name[:port]`.

use std::fmt;

use http::uri::Authority;

use crate::addr::is_dns_name;

const DEFAULT_PORT: u16 = 80;

/// Names are in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalName {
    pub name: String,
    pub port: u16,
}

impl LogicalName {
    /// None for what is no `name[:port]`. Addresses are no names.
    pub fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !is_dns_name(&name) || is_address {
            return None;
        }
        // Not `Authority::port`, which takes a number that is no port for none.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => DEFAULT_PORT,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port > 0)?,
        };
        Some(Self { name, port })
    }
}

impl fmt::Display for LogicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelt_in_one_way_and_has_a_port() {
        for (text, name) in [
            ("web.shop.svc.cluster.local:8080", "web.shop.svc.cluster.local:8080"),
            ("web.shop.svc.cluster.local", "web.shop.svc.cluster.local:80"),
            ("Web.Shop.:1", "web.shop:1"),
            ("web", "web:80"),
        ] {
            assert_eq!(LogicalName::parse(text).map(|name| name.to_string()).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn addresses_and_what_is_no_name_with_a_port_are_none() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1:80",
            "[fd00::1]:80",
            "a b",
            "a.shop:0",
            "a.shop:65536",
            "a.shop:",
            "u@a.shop",
            "a..b",
            "a/b",
        ] {
            assert_eq!(LogicalName::parse(text), None, "{text}");
        }
    }
}
