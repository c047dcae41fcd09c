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

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn balanced(path: &str) -> wire::Backend {
    use backend::{BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery};
    let get = endpoint_discovery::DestinationGet { path: path.into() };
    let discovery = Some(EndpointDiscovery { kind: Some(endpoint_discovery::Kind::Dst(get)) });
    let load = Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma { default_rtt: seconds(1), decay: seconds(10) }));
    let kind = Some(backend::Kind::Balancer(BalanceP2c { discovery, load }));
    let queue = Some(wire::Queue { capacity: 1, failfast_timeout: seconds(3) });
    wire::Backend { metadata: meta(path), kind, queue }
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
    let empty = http_route::distribution::FirstAvailable::default();
    let empty = http_route::Distribution { kind: Some(http_route::distribution::Kind::FirstAvailable(empty)) };
    assert_eq!(complaint(&http(vec![rule(Some(empty))], None)), "distribution has no backends");
}

/// A policy of one backend, changed in one place.
fn with_backend(change: impl FnOnce(&mut wire::Backend)) -> wire::OutboundPolicy {
    let mut backend = balanced("a:80");
    change(&mut backend);
    http(vec![rule(weighted(&[(backend, 1)]))], None)
}

#[test]
fn a_backend_is_described_in_full_or_the_policy_is_invalid() {
    use backend::{BalanceP2c, Kind, balance_p2c};
    assert!(!matches!(compile(&with_backend(|_| {})).protocol, ClientProtocol::Invalid(_)));
    assert_eq!(complaint(&with_backend(|b| b.metadata = None)), "backend has no metadata");
    assert_eq!(complaint(&with_backend(|b| b.queue = None)), "backend has no queue");
    let no_time = with_backend(|b| b.queue = Some(wire::Queue { capacity: 1, failfast_timeout: None }));
    assert_eq!(complaint(&no_time), "the failfast timeout of a backend's queue is missing");
    let balancer = |change: &dyn Fn(&mut BalanceP2c)| {
        with_backend(|backend| match &mut backend.kind {
            Some(Kind::Balancer(balancer)) => change(balancer),
            _ => unreachable!("it is balanced"),
        })
    };
    assert_eq!(complaint(&balancer(&|b| b.discovery = None)), "balancer has no discovery");
    assert_eq!(complaint(&balancer(&|b| b.load = None)), "balancer has no load");
    let load = |default_rtt, decay| Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma { default_rtt, decay }));
    assert_eq!(complaint(&balancer(&|b| b.load = load(None, seconds(1)))), "the default RTT of a load is missing");
    assert_eq!(complaint(&balancer(&|b| b.load = load(seconds(1), None))), "the decay of a load is missing");
    assert_eq!(complaint(&balancer(&|b| b.load = load(seconds(-1), None))), "the default RTT of a load is negative");
    let nowhere = with_backend(|b| b.kind = Some(Kind::Forward(Default::default())));
    assert_eq!(complaint(&nowhere), "backend forwards to no address");
    let unresolved = compile(&with_backend(|b| b.kind = None));
    assert_eq!(unresolved.backends[0].kind, BackendKind::Unusable, "it is valid, and fails what it is given");
}

#[test]
fn a_penalised_load_has_defaults() {
    use backend::{Kind, balance_p2c};
    let policy = compile(&with_backend(|backend| {
        let Some(Kind::Balancer(balancer)) = &mut backend.kind else { unreachable!("it is balanced") };
        balancer.load = Some(balance_p2c::Load::PenaltyPeakEwma(Default::default()));
    }));
    let BackendKind::Balancer(balancing) = &policy.backends[0].kind else { panic!("not balanced") };
    let ms = std::time::Duration::from_millis;
    assert_eq!((balancing.load.default_rtt, balancing.load.decay), (ms(30), ms(10_000)));
    let penalty = balancing.load.penalty.unwrap();
    assert_eq!((penalty.rtt, penalty.max_retry_after), (ms(5_000), ms(300_000)));
}

#[test]
fn a_resource_is_named_in_full_or_the_policy_is_invalid() {
    use weft_proto::linkerd::meta::Resource;
    let whole = Resource {
        group: "core".into(),
        kind: "Service".into(),
        name: "books".into(),
        namespace: "shop".into(),
        ..Default::default()
    };
    let named = |resource: Resource| wire::OutboundPolicy {
        metadata: Some(Metadata { kind: Some(metadata::Kind::Resource(resource)) }),
        ..http(vec![], None)
    };
    assert_eq!(compile(&named(whole.clone())).parent.name, "books");
    let lacking = [
        ("group", Resource { group: String::new(), ..whole.clone() }),
        ("kind", Resource { kind: String::new(), ..whole.clone() }),
        ("name", Resource { name: String::new(), ..whole.clone() }),
        ("namespace", Resource { namespace: String::new(), ..whole.clone() }),
    ];
    for (part, resource) in lacking {
        assert_eq!(complaint(&named(resource)), format!("the resource of a policy has no {part}"));
    }
}

#[test]
fn detection_needs_all_its_parts() {
    use proxy_protocol::{Detect, Http1, Http2, Kind, Opaque};
    let whole = Detect {
        timeout: seconds(10),
        opaque: Some(Opaque::default()),
        http1: Some(Http1::default()),
        http2: Some(Http2::default()),
    };
    let detect = |detect: Detect| wire::OutboundPolicy {
        protocol: Some(wire::ProxyProtocol { kind: Some(Kind::Detect(detect)) }),
        metadata: meta("parent"),
    };
    assert!(matches!(compile(&detect(whole.clone())).protocol, ClientProtocol::Detect { .. }));
    let lacking = [
        (Detect { timeout: None, ..whole.clone() }, "the timeout of detection is missing"),
        (Detect { opaque: None, ..whole.clone() }, "detect policy has no opaque part"),
        (Detect { http1: None, ..whole.clone() }, "detect policy has no HTTP/1 part"),
        (Detect { http2: None, ..whole.clone() }, "detect policy has no HTTP/2 part"),
    ];
    for (policy, why) in lacking {
        assert_eq!(complaint(&detect(policy)), why);
    }
}

#[test]
fn bytes_have_one_route_of_one_rule() {
    use proxy_protocol::{Kind, Opaque, Tls};
    let policy = |kind| wire::OutboundPolicy {
        protocol: Some(wire::ProxyProtocol { kind: Some(kind) }),
        metadata: meta("parent"),
    };
    let ruleless = wire::OpaqueRoute { metadata: meta("route"), ..Default::default() };
    let two = Opaque { routes: vec![ruleless.clone(), ruleless.clone()] };
    assert_eq!(complaint(&policy(Kind::Opaque(two))), "more than one opaque route");
    let one = Opaque { routes: vec![ruleless] };
    assert_eq!(complaint(&policy(Kind::Opaque(one))), "an opaque route needs exactly one rule");
    let tls = Tls { routes: vec![wire::TlsRoute { metadata: meta("route"), ..Default::default() }] };
    assert_eq!(complaint(&policy(Kind::Tls(tls))), "a TLS route needs exactly one rule");
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
