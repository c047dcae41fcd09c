//! What an ingress' request says about where it goes: `l5d-dst-override`, honoured in ingress mode only (wire.md 5.5).

use http::{HeaderMap, HeaderName, uri::Authority};

use crate::addr::is_dns_name;

pub const DST_OVERRIDE: HeaderName = HeaderName::from_static("l5d-dst-override");
const DEFAULT_PORT: u16 = 80;

/// A logical destination. Names are in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalName {
    pub name: String,
    pub port: u16,
}

/// The header is not `name[:port]`. Addresses are no names: to one of them the request goes without the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAName;

/// Removes the header and tells what it named; the first counts where there are several. None when there was none.
pub fn take_override(headers: &mut HeaderMap) -> Result<Option<LogicalName>, NotAName> {
    let Some(value) = headers.remove(DST_OVERRIDE) else { return Ok(None) };
    let authority: Authority = value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(NotAName)?;
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if !is_dns_name(&name) || is_address {
        return Err(NotAName);
    }
    // Not `Authority::port`, which takes a number that is no port for none.
    let port = match authority.as_str().strip_prefix(authority.host()).ok_or(NotAName)? {
        "" => DEFAULT_PORT,
        port => port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or(NotAName)?,
    };
    Ok(Some(LogicalName { name, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(values: &[&str]) -> (Result<Option<LogicalName>, NotAName>, HeaderMap) {
        let mut headers: HeaderMap = values.iter().map(|value| (DST_OVERRIDE, value.parse().unwrap())).collect();
        let taken = take_override(&mut headers);
        (taken, headers)
    }

    #[test]
    fn the_header_names_a_destination_and_is_gone() {
        for (value, name, port) in [
            ("web.shop.svc.cluster.local:8080", "web.shop.svc.cluster.local", 8080),
            ("web.shop.svc.cluster.local", "web.shop.svc.cluster.local", 80),
            ("Web.Shop.:1", "web.shop", 1),
            ("web", "web", 80),
        ] {
            let (taken, left) = taken(&[value]);
            assert_eq!(taken, Ok(Some(LogicalName { name: name.to_owned(), port })), "{value}");
            assert!(left.is_empty());
        }
    }

    #[test]
    fn without_the_header_nothing_is_named_and_of_two_the_first_counts() {
        assert_eq!(taken(&[]).0, Ok(None));
        let (taken, left) = taken(&["a.shop", "b.shop:81"]);
        assert_eq!(taken, Ok(Some(LogicalName { name: "a.shop".to_owned(), port: 80 })));
        assert!(left.is_empty());
    }

    #[test]
    fn what_is_no_name_with_a_port_is_refused_and_gone() {
        for value in [
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
            let (taken, left) = taken(&[value]);
            assert_eq!(taken, Err(NotAName), "{value}");
            assert!(left.is_empty());
        }
    }
}
