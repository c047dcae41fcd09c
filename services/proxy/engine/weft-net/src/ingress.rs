//! Connections of an ingress (wire.md 5.5): it chose an endpoint by itself, so each of its requests goes to the name that
//! `l5d-dst-override` gives, and only without one to where the connection was going. Whether a connection is HTTP is
//! looked at before anything is known of its destination; bytes go where they were going.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use weft_core::{
    detect::Detected,
    failure::Failure,
    gateway::http_authority,
    ingress::{NotAName, take_override},
    logical_name::LogicalName,
    meta::Meta,
    metrics::Labels,
};

use crate::{
    accept::Detection,
    conn::Conn,
    connection_record::ConnectionRecord,
    facts::Connection,
    outbound::{count_error, detect, forward_opaque},
    outbound_http::{Destination, OutboundHttp, serve_application},
    proxy::Proxy,
    record::Record,
    respond::AnswerTo,
    serve::{Answer, BoxRequest, Handler, HttpVersion},
    targets::TargetKey,
};

pub async fn connection(proxy: Arc<Proxy>, dst: SocketAddr, mut conn: Conn) {
    let mut parent = Labels::default();
    Meta::built_in("ingress").full_labels("parent", &mut parent);
    let version = match detect(&proxy, &parent, &mut conn).await {
        Some(Detection::Is(Detected::Http1)) => HttpVersion::One,
        Some(Detection::Is(Detected::Http2)) => HttpVersion::Two,
        Some(Detection::Is(Detected::NotHttp) | Detection::TimedOut) => return forward(&proxy, dst, conn).await,
        None => return,
    };
    let connection = Connection::outbound(&proxy, &conn, dst, version.label());
    let onward = OutboundHttp::new(proxy.clone());
    let handler = Arc::new(Ingress { connection, onward, dst, original: OnceLock::new() });
    serve_application(&proxy, conn, version, handler.clone(), &handler.onward).await;
}

async fn forward(proxy: &Arc<Proxy>, dst: SocketAddr, conn: Conn) {
    let target = proxy.targets.lease(TargetKey::OriginalDst(dst));
    let routing = tokio::select! {
        routing = target.discovered() => routing,
        () = proxy.drain.begun() => return,
    };
    let mut record = ConnectionRecord::outbound(proxy, &conn, dst);
    if !forward_opaque(proxy, dst, &routing, conn, &mut record).await {
        record.routed(&routing, None);
        record.failed("the target takes no opaque bytes");
        count_error(proxy, dst, "unexpected");
    }
}

/// One connection of an ingress.
struct Ingress {
    connection: Arc<Connection>,
    onward: OutboundHttp,
    dst: SocketAddr,
    /// Of requests that name no other; asked for when the first one comes.
    original: OnceLock<Destination>,
}

impl Handler for Ingress {
    fn handle(self: Arc<Self>, mut request: BoxRequest) -> Answer {
        Box::pin(async move {
            let proxy = &self.connection.proxy;
            let mut record = Record::begin(&self.connection, &mut request);
            let answer_to = AnswerTo::new(&request, proxy.settings.informational_headers);
            let result = match take_override(request.headers_mut()) {
                Ok(Some(name)) => self.onward.respond(&named(proxy, &name), request, &mut record).await,
                Ok(None) => self.onward.respond(self.original(), request, &mut record).await,
                Err(NotAName) => Err(Failure::InvalidRequest("l5d-dst-override is not name:port").into()),
            };
            record.concludes(result, |failure| self.onward.failed(failure, &answer_to))
        })
    }
}

impl Ingress {
    fn original(&self) -> &Destination {
        self.original.get_or_init(|| Destination {
            target: self.connection.proxy.targets.lease(TargetKey::OriginalDst(self.dst)),
            host: self.dst.to_string(),
        })
    }
}

/// Kept by the cache of targets between requests.
fn named(proxy: &Arc<Proxy>, LogicalName { name, port }: &LogicalName) -> Destination {
    Destination { target: proxy.targets.lease(TargetKey::named(name, *port)), host: http_authority(name, *port) }
}
