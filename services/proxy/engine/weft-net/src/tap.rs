//! The tap port: live requests and kept decisions, for the one identity that may see them (wire.md 1.10).

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::Response;
use tokio::net::TcpStream;
use weft_core::{addr::canonical, tap::TapMatch};
use weft_proto::{
    decision::ListDecisions,
    linkerd::tap::{
        ObserveRequest,
        observe_request::extract::{Extract, Http, http::Extract as HttpExtract},
    },
};

use crate::{
    accept::{Accepted, mesh_tls},
    body::Body,
    conn::tune,
    grpc::{self, Code, Messages, Status},
    proxy::Proxy,
    recorder::Tap,
    serve::{Answer, BoxRequest, Handler, HttpVersion, ServeSettings, serve},
};

const TLS_WITHIN: Duration = Duration::from_secs(1);
const OBSERVE: &str = "/io.linkerd.proxy.tap.Tap/Observe";
const LIST: &str = "/weft.decision.v1.Decisions/List";

pub async fn connection(proxy: Arc<Proxy>, stream: TcpStream) {
    tune(&stream, None, None);
    let Ok(client) = stream.peer_addr().map(canonical) else { return };
    let config = proxy.identity.current().server.clone();
    let accepted = mesh_tls(stream, &proxy.settings.local_identity, config.as_ref(), TLS_WITHIN).await;
    let (conn, client_id) = match accepted {
        Ok(Accepted::Mesh { conn, client_id, .. }) => (conn, client_id),
        Ok(Accepted::Plain { conn }) => (conn, None),
        // TLS to somebody else has no business here; half-open probes are not worth a log line each.
        Ok(Accepted::PassedThrough { .. }) | Err(_) => return,
    };
    let may_tap = client.ip().is_loopback()
        || client_id.as_deref().is_some_and(|id| !id.is_empty() && id == proxy.settings.tap_client);
    let settings = ServeSettings {
        http2: &proxy.settings.inbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
        head_timeout: proxy.settings.inbound_detect_timeout,
    };
    let handler = Arc::new(TapPort { proxy: proxy.clone(), may_tap });
    let never = tokio::sync::Notify::new();
    // Streams end with the drain, as they would never end by themselves.
    let _ = serve(conn, HttpVersion::Two, handler, settings, &proxy.drain, &never).await;
}

struct TapPort {
    proxy: Arc<Proxy>,
    may_tap: bool,
}

impl Handler for TapPort {
    fn handle(self: Arc<Self>, request: BoxRequest) -> Answer {
        Box::pin(async move { Ok(self.respond(request).await.unwrap_or_else(|status| grpc::refused(&status))) })
    }
}

impl TapPort {
    async fn respond(&self, request: BoxRequest) -> Result<Response<Body>, Status> {
        if !self.may_tap {
            return Err(Status::new(Code::Unauthenticated, "only the mesh's tap may see requests"));
        }
        let path = request.uri().path().to_owned();
        match path.as_str() {
            OBSERVE => self.observe(&grpc::message(request.into_body()).await?),
            LIST => {
                let asked: ListDecisions = grpc::message(request.into_body()).await?;
                Ok(grpc::answer(Messages::one(&self.proxy.recorder.list(&asked))))
            }
            _ => Err(Status::new(Code::Unimplemented, format!("{path} is not served here"))),
        }
    }

    fn observe(&self, asked: &ObserveRequest) -> Result<Response<Body>, Status> {
        let invalid = |why: String| Status::new(Code::InvalidArgument, why);
        if asked.limit == 0 {
            return Err(invalid("limit must be above 0".to_owned()));
        }
        let wanted = asked.r#match.as_ref().ok_or_else(|| invalid("match is missing".to_owned()))?;
        let matcher = TapMatch::from_wire(wanted).map_err(invalid)?;
        let extract = asked.extract.as_ref().and_then(|extract| extract.extract.as_ref());
        let extracts = matches!(extract, Some(Extract::Http(Http { extract: Some(HttpExtract::Headers(_)) })));
        let recorder = &self.proxy.recorder;
        let Some((tap, events)) = recorder.tap(matcher, extracts, asked.limit) else {
            return Err(Status::new(Code::ResourceExhausted, "too many taps at once"));
        };
        let guard = Untap { proxy: self.proxy.clone(), tap };
        Ok(grpc::answer(Messages::stream(events, Box::new(guard))))
    }
}

/// Ends the tap when its client is gone.
struct Untap {
    proxy: Arc<Proxy>,
    /// Weak: the stream ends when the last request that reports to the tap has.
    tap: Weak<Tap>,
}

impl Drop for Untap {
    fn drop(&mut self) {
        if let Some(tap) = self.tap.upgrade() {
            self.proxy.recorder.untap(&tap);
        }
    }
}
