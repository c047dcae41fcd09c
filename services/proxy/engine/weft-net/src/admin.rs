//! The admin port: inbound policy and the first bytes here, answers from Python (observability.md 2).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::{Notify, oneshot},
    time::timeout,
};
use weft_core::{
    addr::canonical,
    detect::Detected,
    failure::Failure,
    inbound::{InboundTls, NoTls},
    orig_proto::host_of,
    route::RequestView,
};
use weft_proto::engine::{AdminRequest, AdminResponse, event::Kind};

use crate::{
    accept::{Accepted, Detection, detect_http, mesh_tls},
    body::Body,
    conn::tune,
    proxy::Proxy,
    respond::AnswerTo,
    serve::{Answer, BoxRequest, Handler, HttpVersion, ServeSettings, serve},
};

/// For TLS and for HTTP detection each.
const PEEK: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 64 * 1024;

/// Requests that Python has not answered yet.
#[derive(Default)]
pub struct AdminRequests {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<AdminResponse>>>,
}

impl AdminRequests {
    /// An answer that came too late goes nowhere.
    pub fn answer(&self, response: AdminResponse) {
        if let Some(waiting) = self.waiting.lock().remove(&response.id) {
            let _ = waiting.send(response);
        }
    }
}

pub async fn connection(proxy: Arc<Proxy>, stream: TcpStream) {
    tune(&stream, None, None);
    let Ok(client) = stream.peer_addr().map(canonical) else {
        return;
    };
    let config = proxy.identity.current().server.clone();
    let accepted = mesh_tls(stream, &proxy.settings.local_identity, config.as_ref(), PEEK).await;
    let (mut conn, tls) = match accepted {
        Ok(Accepted::Mesh { conn, client_id, .. }) => (conn, InboundTls::Mesh { client_id }),
        Ok(Accepted::PassedThrough { conn, sni }) => (conn, InboundTls::PassedThrough { sni }),
        Ok(Accepted::Plain { conn }) => {
            let reason = if client.ip().is_loopback() { NoTls::Loopback } else { NoTls::FromRemote };
            (conn, InboundTls::NoTls { reason })
        }
        // Scanners and half-open probes; the port is not worth a log line each.
        Err(_) => return,
    };
    let version = match detect_http(&mut conn, PEEK).await {
        Ok(Detection::Is(Detected::Http1 | Detected::NotHttp)) => HttpVersion::One,
        Ok(Detection::Is(Detected::Http2)) => HttpVersion::Two,
        Ok(Detection::TimedOut) if matches!(tls, InboundTls::Mesh { .. }) => HttpVersion::Two,
        Ok(Detection::TimedOut) => HttpVersion::One,
        Err(_) => return,
    };
    let settings = ServeSettings {
        http2: &proxy.settings.inbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
        head_timeout: ANSWER_WITHIN,
    };
    let handler = Arc::new(Admin { proxy: proxy.clone(), client, tls });
    // Open while the proxy drains: probes and the last scrape go on.
    let never = Notify::new();
    let _ = serve(conn, version, handler, settings, &crate::drain::Drain::new(), &never).await;
}

struct Admin {
    proxy: Arc<Proxy>,
    client: SocketAddr,
    tls: InboundTls,
}

impl Handler for Admin {
    fn handle(self: Arc<Self>, request: BoxRequest) -> Answer {
        Box::pin(async move {
            let answer_to = AnswerTo::new(&request, self.tls.client_id().is_some());
            Ok(match self.authorize(&request) {
                Err(failure) => answer_to.answer(&failure),
                Ok(()) => self.respond(request).await,
            })
        })
    }
}

impl Admin {
    fn authorize(&self, request: &Request<Body>) -> Result<(), Failure> {
        let settings = &self.proxy.settings;
        let policy = self.proxy.ports.lease(settings, settings.admin_listen.port()).policy();
        let view = RequestView {
            method: request.method(),
            host: host_of(request),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
        };
        let matched = policy.find_route(&view).ok_or(Failure::NoRoute)?;
        policy.authorize(matched.route, self.client.ip(), &self.tls).map(drop).ok_or(Failure::Unauthorized)
    }

    async fn respond(&self, request: BoxRequest) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return empty(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Err(_) => return empty(StatusCode::BAD_REQUEST),
        };
        let admin = &self.proxy.admin;
        let id = admin.next.fetch_add(1, Relaxed);
        let (sender, receiver) = oneshot::channel();
        admin.waiting.lock().insert(id, sender);
        let asked = AdminRequest {
            id,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            client_ip: self.client.ip().to_string(),
            client_is_loopback: self.client.ip().is_loopback(),
            client_id: self.tls.client_id().map(|id| id.to_string()).unwrap_or_default(),
            headers: joined(&parts.headers),
            body: body.to_vec(),
        };
        if !self.proxy.events.push_admin(Kind::AdminRequest(asked)) {
            admin.waiting.lock().remove(&id);
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        match timeout(ANSWER_WITHIN, receiver).await {
            Ok(Ok(answer)) => response(answer),
            _ => {
                admin.waiting.lock().remove(&id);
                empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

/// Repeated values joined; values that are not text are left out.
fn joined(headers: &http::HeaderMap) -> HashMap<String, String> {
    let mut out: HashMap<String, String> = HashMap::with_capacity(headers.len());
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        out.entry(name.as_str().to_owned())
            .and_modify(|seen| {
                seen.push_str(", ");
                seen.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    out
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn response(answer: AdminResponse) -> Response<Body> {
    let status = u16::try_from(answer.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Body::full(Bytes::from(answer.body)));
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::try_from(answer.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    response
}
