//! Protocol switches (WebSocket and its kin): after a 101 both connections become plain byte streams (wire.md 5.4).

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use weft_core::headers;

use crate::{drain::Drain, splice::splice};

/// The client's half of a switch that may be granted.
pub struct Asked(OnUpgrade);

/// Takes the client's half out of a request that asks for a switch.
pub fn asked<B>(request: &mut Request<B>) -> Option<Asked> {
    let asks = request.version() != Version::HTTP_2
        && (request.method() == Method::CONNECT || headers::is_upgrade(request.headers()));
    asks.then(|| Asked(hyper::upgrade::on(request)))
}

impl Asked {
    /// Joins both halves when the server granted the switch. True when it did.
    pub fn answer<B>(self, method: &Method, response: &mut Response<B>, drain: &Arc<Drain>) -> bool {
        let status = response.status();
        let granted = status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success());
        if granted {
            let server = hyper::upgrade::on(response);
            let in_flight = drain.enter();
            tokio::spawn(async move {
                let _in_flight = in_flight;
                if let (Ok(client), Ok(server)) = tokio::join!(self.0, server) {
                    join(client, server).await;
                }
            });
        }
        granted
    }
}

async fn join(client: Upgraded, server: Upgraded) {
    // How it ends is counted by the two sockets.
    let _ = splice(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
}
