//! How a gateway marks what it passes on, and knows its own mark: no loops, `Forwarded` (wire.md 5.3).

use http::{HeaderMap, HeaderValue, header};

/// The request passed through `id` before: it is in the `by` of some `Forwarded` header. Source: RFC 7239.
pub fn has_passed(headers: &HeaderMap, id: &str) -> bool {
    let elements = headers.get_all(header::FORWARDED).iter().filter_map(|value| value.to_str().ok());
    let pairs = elements.flat_map(|value| value.split([',', ';'])).filter_map(|pair| pair.trim().split_once('='));
    let mut by = pairs.filter(|(key, _)| key.eq_ignore_ascii_case("by")).map(|(_, value)| value.trim_matches('"'));
    by.any(|value| value.eq_ignore_ascii_case(id))
}

/// Who passes the request on, for whom, and what it was for. None when one of them cannot stand in a header.
pub fn forwarded(by: &str, client_id: &str, host: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("by={by};for={client_id};host={host};proto=https")).ok()
}

/// A name and port as HTTP writes them: port 80 goes without saying.
pub fn http_authority(name: &str, port: u16) -> String {
    if port == 80 { name.to_owned() } else { format!("{name}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_our_own_mark_wherever_it_stands() {
        let mut headers = HeaderMap::new();
        headers.append(header::FORWARDED, forwarded("gw.one", "client", "web:80").unwrap());
        headers.append(header::FORWARDED, HeaderValue::from_static("for=a; By=\"gw.two\", for=b;by=gw.three"));
        for (id, passed) in [("gw.one", true), ("gw.two", true), ("gw.three", true), ("client", false), ("gw", false)] {
            assert_eq!(has_passed(&headers, id), passed, "{id}");
        }
    }

    #[test]
    fn the_mark_names_both_ends() {
        let mark = forwarded("gw.id", "client.id", "web.shop:8080").unwrap();
        assert_eq!(mark, "by=gw.id;for=client.id;host=web.shop:8080;proto=https");
        assert_eq!(forwarded("gw", "a\nb", "web"), None);
        assert_eq!((http_authority("web", 80), http_authority("web", 81)), ("web".into(), "web:81".into()));
    }
}
