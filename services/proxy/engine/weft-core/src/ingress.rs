//! What an ingress' request says about where it goes: `l5d-dst-override`, honoured in ingress mode only (wire.md 5.5).

use http::{HeaderMap, HeaderName};

use crate::logical_name::LogicalName;

pub const DST_OVERRIDE: HeaderName = HeaderName::from_static("l5d-dst-override");

/// The header is not `name[:port]`. Addresses are no names: to one of them the request goes without the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAName;

/// Removes the header and tells what it named; the first counts where there are several. None when there was none.
pub fn take_override(headers: &mut HeaderMap) -> Result<Option<LogicalName>, NotAName> {
    let Some(value) = headers.remove(DST_OVERRIDE) else { return Ok(None) };
    value.to_str().ok().and_then(LogicalName::parse).map(Some).ok_or(NotAName)
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
        let (taken, left) = taken(&["Web.shop.svc.cluster.local:8080"]);
        assert_eq!(taken, Ok(LogicalName::parse("web.shop.svc.cluster.local:8080")));
        assert!(left.is_empty());
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
        for value in ["", "10.0.0.1:80", "a.shop:0"] {
            let (taken, left) = taken(&[value]);
            assert_eq!(taken, Err(NotAName), "{value}");
            assert!(left.is_empty());
        }
    }
}
