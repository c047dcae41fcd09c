use http::{HeaderMap, Method};
use weft_proto::linkerd::{
    http_route as matches,
    meta::{Metadata, metadata},
    outbound::{backend, http_route, proxy_protocol},
};

use super::*;

fn dst() -> SocketAddr {
    "10.1.2.3:80".parse().unwrap()
}

fn meta(name: &str) -> Option<Metadata> {
    Some(Metadata { kind: Some(metadata::Kind::Default(name.into())) })
}

fn balanced(path: &str) -> wire::Backend {
    use backend::{BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery};
    let get = endpoint_discovery::DestinationGet { path: path.into() };
    let discovery = Some(EndpointDiscovery { kind: Some(endpoint_discovery::Kind::Dst(get)) });
    let load = Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma::default()));
    let kind = Some(backend::Kind::Balancer(BalanceP2c { discovery, load }));
    wire::Backend { metadata: meta(path), kind, queue: None }
}

fn weighted(backends: &[(wire::Backend, u32)]) -> Option<http_route::Distribution> {
    use http_route::distribution::{Kind, RandomAvailable};
    let one = |(backend, weight): &(wire::Backend, u32)| {
        let backend = Some(http_route::RouteBackend { backend: Some(backend.clone()), ..Default::default() });
        http_route::WeightedRouteBackend { backend, weight: *weight }
    };
    let random = RandomAvailable { backends: backends.iter().map(one).collect() };
    Some(http_route::Distribution { kind: Some(Kind::RandomAvailable(random)) })
}

fn http(rules: Vec<http_route::Rule>, failure_accrual: Option<wire::FailureAccrual>) -> wire::OutboundPolicy {
    let route = wire::HttpRoute { metadata: meta("route"), hosts: vec![], rules };
    let http1 = proxy_protocol::Http1 { routes: vec![route], failure_accrual };
    let protocol = Some(wire::ProxyProtocol { kind: Some(proxy_protocol::Kind::Http1(http1)) });
    wire::OutboundPolicy { protocol, metadata: meta("parent") }
}

fn compile(policy: &wire::OutboundPolicy) -> ClientPolicy {
    ClientPolicy::compile(dst(), Some(policy), None, &[])
}

fn complaint(policy: &wire::OutboundPolicy) -> String {
    match compile(policy).protocol {
        ClientProtocol::Invalid(reason) => reason,
        _ => panic!("the policy is valid"),
    }
}

fn rule(backends: Option<http_route::Distribution>) -> http_route::Rule {
    http_route::Rule { backends, ..Default::default() }
}

#[test]
fn an_unknown_target_is_forwarded_to_where_it_was_going() {
    let policy = ClientPolicy::compile(dst(), None, None, &[]);
    assert_eq!(policy.parent.name, "fallback");
    assert_eq!(policy.backends[0].kind, BackendKind::Forward(EndpointInfo::plain(dst())));
    assert!(matches!(policy.protocol, ClientProtocol::Detect { .. }));
}

#[test]
fn an_opaque_profile_endpoint_is_reached_as_bytes() {
    let endpoint = weft_proto::linkerd::destination::WeightedAddr {
        addr: Some(crate::addr::wire_socket(dst())),
        ..Default::default()
    };
    let profile = DestinationProfile { opaque_protocol: true, endpoint: Some(endpoint), ..Default::default() };
    let policy = ClientPolicy::compile(dst(), None, Some(&profile), &[]);
    assert_eq!(policy.parent.name, "endpoint");
    assert!(matches!(policy.protocol, ClientProtocol::Opaque(_)));
}

#[test]
fn what_makes_a_policy_invalid_is_named() {
    assert_eq!(complaint(&wire::OutboundPolicy::default()), "policy has no metadata");
    assert_eq!(complaint(&http(vec![rule(None)], None)), "rule has no backends");
    let weightless = weighted(&[(balanced("a:80"), 0), (balanced("b:80"), 0)]);
    assert_eq!(complaint(&http(vec![rule(weightless)], None)), "distribution has no backend with a weight");
    let unconditional =
        http_route::Rule { retry: Some(http_route::Retry::default()), ..rule(weighted(&[(balanced("a:80"), 1)])) };
    assert_eq!(complaint(&http(vec![unconditional], None)), "retry has no conditions");
    let accrual = Some(wire::FailureAccrual::default());
    assert_eq!(complaint(&http(vec![], accrual)), "failure accrual has no kind");
}

#[test]
fn equal_backends_are_one_and_rules_are_numbered() {
    let split = || weighted(&[(balanced("a:80"), 1), (balanced("b:80"), 3)]);
    let policy = compile(&http(vec![rule(split()), rule(split())], None));
    assert_eq!(policy.backends.len(), 2);
    let rules = policy.rules();
    assert_eq!(rules.iter().map(|rule| rule.id).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rules[0].backends, rules[1].backends);
}

#[test]
fn a_single_weighted_backend_is_the_first() {
    let policy = compile(&http(vec![rule(weighted(&[(balanced("a:80"), 0)]))], None));
    assert!(matches!(&policy.rules()[0].backends, Distribution::First(all) if all.len() == 1));
}

#[test]
fn the_request_reaches_its_rule_with_the_prefix_that_matched() {
    let prefix = |path: &str| matches::HttpRouteMatch {
        path: Some(matches::PathMatch { kind: Some(matches::path_match::Kind::Prefix(path.into())) }),
        ..Default::default()
    };
    let rule = http_route::Rule { matches: vec![prefix("/books/")], ..rule(weighted(&[(balanced("a:80"), 1)])) };
    let policy = compile(&http(vec![rule], None));
    let ClientProtocol::Http1(routes) = &policy.protocol else { panic!("not HTTP/1") };
    let headers = HeaderMap::new();
    let view = |path| RequestView { method: &Method::GET, host: "a", path, query: "", headers: &headers };
    assert_eq!(routes.find(&view("/books/1")).map(|(rule, prefix)| (rule.id, prefix)), Some((0, Some(6))));
    assert!(routes.find(&view("/book")).is_none());
}

#[test]
fn a_profile_with_routes_takes_the_place_of_the_policys_http_routes() {
    let policy = http(vec![rule(weighted(&[(balanced("a:80"), 1)]))], None);
    let named =
        DestinationProfile { fully_qualified_name: "books.shop.svc.cluster.local".into(), ..Default::default() };
    let protocol =
        |profile: &DestinationProfile| match ClientPolicy::compile(dst(), Some(&policy), Some(profile), &[]).protocol {
            ClientProtocol::Http1(HttpRoutes::Policy(_)) => "policy",
            ClientProtocol::Http1(HttpRoutes::Profile(_)) => "profile",
            _ => "other",
        };
    assert_eq!(protocol(&named), "policy");
    let routes = vec![weft_proto::linkerd::destination::Route::default()];
    assert_eq!(protocol(&DestinationProfile { routes: routes.clone(), ..named }), "profile");
    assert_eq!(protocol(&DestinationProfile { routes, ..Default::default() }), "policy");
}
