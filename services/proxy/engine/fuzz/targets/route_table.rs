//! Policy from arbitrary bytes, as a broken control plane might send it: compiled or refused, then asked.
#![no_main]

use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use weft_core::{
    inbound::{InboundTls, NoTls, ServerPolicy},
    outbound::{ClientPolicy, ClientProtocol, HttpRoutes},
    route::RequestView,
};
use weft_proto::linkerd::{inbound::Server, outbound::OutboundPolicy};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    headers.insert("x-user", HeaderValue::from_static("alice"));
    let view = RequestView {
        method: &Method::POST,
        host: "web.shop.svc.cluster.local:80",
        path: "/a.Service/Call",
        query: "q=a%20b&r",
        headers: &headers,
    };
    if let Ok(server) = Server::decode(bytes)
        && let Ok(policy) = ServerPolicy::from_wire(&server)
    {
        let route = policy.find_route(&view).and_then(|matched| matched.route);
        policy.authorize(route, [10, 0, 0, 1].into(), &InboundTls::NoTls { reason: NoTls::FromRemote });
    }
    if let Ok(message) = OutboundPolicy::decode(bytes) {
        let policy = ClientPolicy::compile(([10, 0, 0, 2], 80).into(), Some(&message), None, &[]);
        let find = |routes: &HttpRoutes| routes.find(&view).is_some();
        match &policy.protocol {
            ClientProtocol::Detect { http1, http2, .. } => find(http1) | find(http2),
            ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) | ClientProtocol::Grpc(routes) => {
                find(routes)
            }
            _ => false,
        };
    }
});
