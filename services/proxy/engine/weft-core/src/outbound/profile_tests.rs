use http::{HeaderMap, Method};
use weft_proto::linkerd::{
    destination::{request_match::Match, response_match::Match as StatusMatch},
    http_types::{HttpMethod, http_method},
};

use super::*;
use crate::outbound::ResponseHead;

fn path(regex: &str) -> wire::RequestMatch {
    wire::RequestMatch { r#match: Some(Match::Path(wire::PathMatch { regex: regex.into() })) }
}

fn get() -> wire::RequestMatch {
    let method = HttpMethod { r#type: Some(http_method::Type::Registered(0)) };
    wire::RequestMatch { r#match: Some(Match::Method(method)) }
}

fn all(matches: Vec<wire::RequestMatch>) -> wire::RequestMatch {
    wire::RequestMatch { r#match: Some(Match::All(wire::request_match::Seq { matches })) }
}

fn route(name: &str, condition: wire::RequestMatch) -> wire::Route {
    wire::Route {
        condition: Some(condition),
        metrics_labels: [("route".to_owned(), name.to_owned())].into(),
        ..Default::default()
    }
}

fn profile(routes: Vec<wire::Route>) -> DestinationProfile {
    DestinationProfile { fully_qualified_name: "books.shop.svc.cluster.local".into(), routes, ..Default::default() }
}

fn compiled(profile: &DestinationProfile) -> ProfileRoutes {
    let mut ids = 0..;
    routes(profile, "10.0.0.1:80".parse().unwrap(), &[(0, 1)], || ids.next().unwrap())
}

fn own(rule: &HttpRule) -> &ProfileRule {
    match &rule.kind {
        RuleKind::Profile(own) => own,
        RuleKind::Http | RuleKind::Grpc => panic!("not a rule of a profile"),
    }
}

fn label(routes: &ProfileRoutes, method: Method, path: &str) -> String {
    let headers = HeaderMap::new();
    let view = RequestView { method: &method, host: "books", path, query: "", headers: &headers };
    own(routes.find(&view)).labels.first().map_or_else(String::new, |(_, value)| value.clone())
}

#[test]
fn the_first_route_that_matches_whole_wins() {
    let not_get = wire::RequestMatch { r#match: Some(Match::Not(Box::new(get()))) };
    let routes = compiled(&profile(vec![
        route("books", all(vec![path("/books/[^/]*"), get()])),
        route("writes", not_get),
        route("any book", path("/books/.*")),
        route("no condition", wire::RequestMatch::default()),
    ]));
    assert_eq!(label(&routes, Method::GET, "/books/1"), "books");
    assert_eq!(label(&routes, Method::GET, "/books/1/pages"), "any book");
    assert_eq!(label(&routes, Method::POST, "/books/1"), "writes");
    assert_eq!(label(&routes, Method::GET, "/else"), "", "the default route has no labels");
}

#[test]
fn retries_need_a_retryable_route_and_a_valid_budget() {
    let mut with_budget =
        profile(vec![wire::Route { is_retryable: true, ..route("r", path("/.*")) }, route("n", get())]);
    assert!(own(compiled(&with_budget).rules().next().unwrap()).budget.is_none());
    let ttl = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    with_budget.retry_budget = Some(wire::RetryBudget { retry_ratio: 0.2, min_retries_per_second: 10, ttl });
    let routes = compiled(&with_budget);
    assert!(own(routes.rules().next().unwrap()).budget.is_some());
    assert!(own(routes.rules().nth(1).unwrap()).budget.is_none());
    assert_eq!(own(&routes.default).dst, "books.shop.svc.cluster.local:80");
}

#[test]
fn response_classes_decide_before_status_and_grpc_code() {
    let status = |min, max| {
        let range = wire::HttpStatusRange { min, max };
        Some(wire::ResponseMatch { r#match: Some(StatusMatch::Status(range)) })
    };
    let routes = compiled(&profile(vec![wire::Route {
        response_classes: vec![
            wire::ResponseClass { condition: status(500, 500), is_failure: false },
            wire::ResponseClass { condition: status(404, 404), is_failure: true },
        ],
        ..route("r", get())
    }]));
    let rule = own(routes.rules().next().unwrap());
    let fails = |status, grpc_status| rule.is_failure(ResponseHead { status, is_grpc: false, grpc_status });
    assert!(!fails(500, None));
    assert!(fails(404, None));
    assert!(fails(501, None));
    assert!(!fails(200, None));
    assert!(fails(200, Some(14)));
    assert!(!fails(200, Some(5)));
}

#[test]
fn overrides_split_by_weight_and_those_without_are_dropped() {
    let dst = "10.0.0.1:80".parse().unwrap();
    let plain = profile(vec![route("r", get())]);
    assert!(replaces_http(&plain) && !replaces_opaque(&plain));
    assert_eq!(backends(&plain, dst, Carries::Http)[0].0.kind, {
        let path = "books.shop.svc.cluster.local:80".to_owned();
        BackendKind::Balancer(Balancing { path, load: LOAD, accrual: None })
    });
    let override_to =
        |authority: &str, weight| wire::WeightedDst { authority: authority.into(), weight, backend_ref: None };
    let split = DestinationProfile {
        dst_overrides: vec![override_to("a:80", 1), override_to("b:80", 0), override_to("c:80", 3)],
        ..profile(vec![])
    };
    let names: Vec<_> =
        backends(&split, dst, Carries::Tcp).into_iter().map(|(b, weight)| (b.meta.name, weight)).collect();
    assert_eq!(names, [("a:80".to_owned(), 1), ("c:80".to_owned(), 3)]);
    assert!(!replaces_http(&profile(vec![])), "a name alone changes nothing");
}
