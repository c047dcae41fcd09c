//! Passes on what other clusters send to names behind this proxy (wire.md 5.3): inbound policy first, then outbound routes.

use std::{io, sync::Arc};

use http::{Response, Version, header};
use weft_core::{
    addr::covers,
    failure::Failure,
    gateway::{forwarded, has_passed, http_authority},
    orig_proto::{host_of, set_host},
};

use crate::{
    body::Body,
    conn::Conn,
    connection_record::ConnectionRecord,
    inbound::{Arrival, REVOKED, Revoked, admit, while_admitted},
    outbound::forward_opaque,
    outbound_http::{Destination, OutboundHttp},
    proxy::Proxy,
    record::Record,
    respond::Ended,
    serve::BoxRequest,
    targets::{TargetKey, TargetLease},
};

/// Of one connection: a transport header names one destination.
pub struct Gateway {
    onward: OutboundHttp,
    /// None when the name is none of ours to pass on to.
    destination: Option<Destination>,
}

fn lease(proxy: &Proxy, name: &str, port: u16) -> Option<TargetLease> {
    covers(&proxy.settings.inbound_gateway_suffixes, name).then(|| proxy.targets.lease(TargetKey::named(name, port)))
}

impl Gateway {
    pub fn new(proxy: &Arc<Proxy>, name: &str, port: u16) -> Self {
        let target = lease(proxy, name, port);
        Self {
            onward: OutboundHttp::new(proxy.clone()),
            destination: target.map(|target| Destination { target, host: http_authority(name, port) }),
        }
    }

    pub async fn pass(
        &self,
        proxy: &Proxy,
        client_id: &str,
        mut request: BoxRequest,
        record: &mut Record,
    ) -> Result<Response<Body>, Ended> {
        let destination = self.destination.as_ref().ok_or(Failure::GatewayDomain)?;
        let own = proxy.settings.local_identity.as_str();
        if client_id == own || has_passed(request.headers(), own) {
            return Err(Failure::GatewayLoop.into());
        }
        if destination.target.discovered().await.refusal.is_some() {
            return Err(Failure::GatewayDomain.into());
        }
        let invalid = || Failure::InvalidRequest("the request names an impossible host");
        let mark = forwarded(own, client_id, host_of(&request)).ok_or_else(invalid)?;
        request.headers_mut().append(header::FORWARDED, mark);
        if request.version() != Version::HTTP_2 {
            set_host(&mut request, &destination.host).ok_or_else(invalid)?;
        }
        self.onward.respond(destination, request, record).await
    }
}

/// Bytes for a name, for as long as the policy of our own port admits the client.
pub async fn forward(proxy: &Arc<Proxy>, arrival: &Arrival, name: &str, port: u16, conn: Conn) -> io::Result<()> {
    let mut record = ConnectionRecord::inbound(proxy, &conn, arrival);
    let Some(target) = lease(proxy, name, port) else {
        return refuse(&mut record, "the gateway does not pass on to this name");
    };
    let Some(admitted) = admit(proxy, arrival, &mut record) else { return Ok(()) };
    let onward = async {
        let routing = target.discovered().await;
        forward_opaque(proxy, arrival.target, &routing, conn, &mut record).await
    };
    match while_admitted(proxy, arrival, admitted, onward).await {
        Ok(true) => Ok(()),
        Ok(false) => refuse(&mut record, "the gateway's target takes no opaque bytes"),
        Err(Revoked) => {
            record.failed(REVOKED);
            Ok(())
        }
    }
}

fn refuse(record: &mut ConnectionRecord, why: &'static str) -> io::Result<()> {
    record.failed(why);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}
