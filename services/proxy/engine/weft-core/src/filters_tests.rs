use http::header;
use weft_proto::linkerd::http_types::headers::Header;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> Option<Headers> {
    let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: value.as_bytes().to_vec() };
    Some(Headers { headers: pairs.iter().map(header).collect() })
}

fn request(target: &str, host: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().unwrap();
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
    }
    request
}

fn http(kind: http_route::filter::Kind) -> Filters {
    Filters::from_http(&[http_route::Filter { kind: Some(kind) }]).unwrap()
}

fn path(replace: path_modifier::Replace) -> Option<wire::PathModifier> {
    Some(wire::PathModifier { replace: Some(replace) })
}

fn location(redirect: wire::RequestRedirect, request: &mut Request<()>, prefix: Option<usize>) -> (u16, String) {
    match http(http_route::filter::Kind::Redirect(redirect)).request(request, prefix, &mut Rng(1)) {
        Err(Failure::Redirected { status, location }) => (status, location),
        other => panic!("{other:?}"),
    }
}

#[test]
fn headers_are_added_then_set_then_removed() {
    let change = HeaderChange::from_wire(
        headers(&[("x-a", "2"), ("x-gone", "1")]).as_ref(),
        headers(&[("x-b", "new")]).as_ref(),
        &["x-gone".to_owned()],
    );
    let mut map = HeaderMap::new();
    map.insert("x-a", HeaderValue::from_static("1"));
    map.insert("x-b", HeaderValue::from_static("old"));
    change.unwrap().apply(&mut map);
    assert_eq!(map.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(map["x-b"], "new");
    assert!(!map.contains_key("x-gone"));
    assert!(HeaderChange::from_wire(headers(&[("no spaces", "x")]).as_ref(), None, &[]).is_err());
}

#[test]
fn a_response_change_leaves_the_request_alone() {
    let modifier = wire::ResponseHeaderModifier { set: headers(&[("x-served-by", "weft")]), ..Default::default() };
    let filters = http(http_route::filter::Kind::ResponseHeaderModifier(modifier));
    let mut request = request("/", None);
    filters.request(&mut request, None, &mut Rng(1)).unwrap();
    assert!(request.headers().is_empty());
    filters.response(request.headers_mut());
    assert_eq!(request.headers()["x-served-by"], "weft");
}

#[test]
fn a_redirect_changes_what_it_names_and_keeps_the_rest() {
    let plain = || request("/old/x?q=1", Some("shop.example:8080"));
    let redirect = wire::RequestRedirect::default;
    assert_eq!(location(redirect(), &mut plain(), None), (301, "http://shop.example:8080/old/x?q=1".into()));
    let other = wire::RequestRedirect { host: "new.example".into(), status: 302, ..redirect() };
    assert_eq!(location(other, &mut plain(), None), (302, "http://new.example/old/x?q=1".into()));
    let scheme = Some(Scheme { r#type: Some(scheme::Type::Registered(1)) });
    let secure = wire::RequestRedirect { scheme: scheme.clone(), ..redirect() };
    assert_eq!(location(secure, &mut plain(), None).1, "https://shop.example/old/x?q=1");
    let own_port = wire::RequestRedirect { scheme, port: 443, ..redirect() };
    assert_eq!(location(own_port, &mut plain(), None).1, "https://shop.example/old/x?q=1");
    let port = wire::RequestRedirect { port: 9090, ..redirect() };
    assert_eq!(location(port, &mut plain(), None).1, "http://shop.example:9090/old/x?q=1");
    let prefix = wire::RequestRedirect { path: path(path_modifier::Replace::Prefix("/new".into())), ..redirect() };
    assert_eq!(location(prefix, &mut plain(), Some(4)).1, "http://shop.example:8080/new/x?q=1");
    assert!(Redirect::from_wire(&wire::RequestRedirect { status: 200, ..redirect() }).is_err());
}

#[test]
fn a_rewritten_prefix_joins_without_doubled_or_lost_slashes() {
    for (new, old, prefix, expected) in [
        ("/new", "/old/x", 4, "/new/x"),
        ("/new/", "/old/x", 4, "/new/x"),
        ("/new", "/old", 4, "/new"),
        ("/", "/old/x", 4, "/x"),
        ("/", "/old", 4, "/"),
        ("/new", "/x", 0, "/new/x"),
    ] {
        let rewrite = wire::UrlRewrite { host: String::new(), path: path(path_modifier::Replace::Prefix(new.into())) };
        let mut request = request(old, None);
        let filters = http(http_route::filter::Kind::UrlRewrite(rewrite));
        filters.request(&mut request, Some(prefix), &mut Rng(1)).unwrap();
        assert_eq!(request.uri().path(), expected, "{old} to {new}");
    }
}

#[test]
fn a_rewrite_names_the_new_host_wherever_the_request_names_one() {
    let rewrite =
        wire::UrlRewrite { host: "b.example".into(), path: path(path_modifier::Replace::Full("/only".into())) };
    let filters = http(http_route::filter::Kind::UrlRewrite(rewrite));
    let mut one = request("/x?q=1", Some("a.example"));
    filters.request(&mut one, None, &mut Rng(1)).unwrap();
    assert_eq!(
        (one.uri().to_string().as_str(), &one.headers()[header::HOST]),
        ("/only?q=1", &"b.example".parse().unwrap())
    );
    let mut two = request("http://a.example/x", None);
    filters.request(&mut two, None, &mut Rng(1)).unwrap();
    assert_eq!(two.uri(), &"http://b.example/only".parse::<Uri>().unwrap());
    assert!(two.headers().is_empty());
}

#[test]
fn replacing_a_prefix_that_no_route_matched_is_the_policys_fault() {
    let rewrite = wire::UrlRewrite { host: String::new(), path: path(path_modifier::Replace::Prefix("/n".into())) };
    let filters = http(http_route::filter::Kind::UrlRewrite(rewrite));
    let failure = filters.request(&mut request("/x", None), None, &mut Rng(1)).unwrap_err();
    assert!(matches!(failure, Failure::InvalidPolicy(_)), "{failure}");
}

#[test]
fn failures_strike_at_their_ratio() {
    let fail = wire::HttpFailureInjector {
        status: 418,
        message: "teapot".into(),
        ratio: Some(wire::Ratio { numerator: 1, denominator: 4 }),
    };
    let filters = http(http_route::filter::Kind::FailureInjector(fail));
    let mut rng = Rng(3);
    let struck = (0..4000).filter(|_| filters.request(&mut request("/", None), None, &mut rng).is_err()).count();
    assert!((900..1100).contains(&struck), "{struck}");
}

#[test]
fn an_unknown_grpc_code_is_unknown() {
    let fail = weft_proto::linkerd::grpc_route::GrpcFailureInjector { code: 500, message: "no".into(), ratio: None };
    let kind = Some(grpc_route::filter::Kind::FailureInjector(fail));
    let filters = Filters::from_grpc(&[grpc_route::Filter { kind }]).unwrap();
    let failure = filters.request(&mut request("/", None), None, &mut Rng(1)).unwrap_err();
    assert_eq!(failure.grpc_code(), 2);
}
