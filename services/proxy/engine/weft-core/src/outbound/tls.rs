//! TLS connections that are passed through, routed by the server name their client asks for (wire.md 2.7).

use weft_proto::linkerd::tls_route::{SniMatch, sni_match};

use super::OpaqueRoute;
use crate::route::HostMatch;

pub struct TlsRoutes {
    routes: Vec<(Vec<HostMatch>, OpaqueRoute)>,
}

impl TlsRoutes {
    pub fn new(routes: Vec<(Vec<HostMatch>, OpaqueRoute)>) -> Self {
        Self { routes }
    }

    /// The most specific name wins, ties go to the first listed. A route without names takes every connection.
    pub fn find(&self, sni: &str) -> Option<&OpaqueRoute> {
        let mut best: Option<((bool, usize), &OpaqueRoute)> = None;
        for (names, route) in &self.routes {
            let found = names.iter().filter_map(|name| name.specificity(sni)).max();
            let found = if names.is_empty() { Some((false, 0)) } else { found };
            match (found, &best) {
                (Some(found), Some((so_far, _))) if found <= *so_far => {}
                (Some(found), _) => best = Some((found, route)),
                (None, _) => {}
            }
        }
        best.map(|(_, route)| route)
    }

    pub fn routes(&self) -> impl Iterator<Item = &OpaqueRoute> {
        self.routes.iter().map(|(_, route)| route)
    }
}

pub fn names_from(snis: &[SniMatch]) -> Result<Vec<HostMatch>, String> {
    let name = |sni: &SniMatch| {
        Ok(match sni.r#match.as_ref().ok_or("TLS route has an empty server name")? {
            sni_match::Match::Exact(name) => HostMatch::exact(name),
            sni_match::Match::Suffix(suffix) => HostMatch::suffix(&suffix.reverse_labels),
        })
    };
    snis.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{meta::Meta, outbound::Distribution};

    fn route(name: &str) -> OpaqueRoute {
        OpaqueRoute { meta: Some(Meta::built_in(name)), refusal: None, backends: Distribution::Empty }
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let suffix = HostMatch::suffix(&["com".into(), "example".into()]);
        let routes = TlsRoutes::new(vec![
            (vec![suffix], route("suffix")),
            (vec![HostMatch::exact("a.example.com")], route("exact")),
        ]);
        let name = |sni| routes.find(sni).and_then(|route| route.meta.clone()).map(|meta| meta.name);
        assert_eq!(name("A.example.com").as_deref(), Some("exact"));
        assert_eq!(name("b.example.com").as_deref(), Some("suffix"));
        assert_eq!(name("example.com"), None);
        let any = TlsRoutes::new(vec![(vec![], route("any"))]);
        assert!(any.find("").is_some());
    }
}
