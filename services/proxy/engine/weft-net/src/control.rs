//! Control tunnels: Python's gRPC client talks plaintext to an abstract Unix socket, and each of its connections is
//! carried to the control-plane service over mesh TLS (wire.md 4.4). gRPC's own TLS could not do this: no ALPN here.

use std::{
    io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr as UnixAddr, UnixListener as StdListener},
    sync::Arc,
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};
use weft_core::{endpoint::ServerId, settings::ControlService};
use weft_proto::engine::log::Level;

use crate::{connect::Connector, control_balancer::ControlBalancer, proxy::Proxy, splice::splice};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bound before Python is told to start, so that its first dial finds it.
pub fn bind(service: &ControlService) -> io::Result<StdListener> {
    let name = format!("weft/{}/{}", std::process::id(), service.name);
    let listener = StdListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub async fn run(proxy: Arc<Proxy>, index: usize, listener: StdListener) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let service = &proxy.settings.control_services[index];
    let balancer = Arc::new(ControlBalancer::new(proxy.metrics.control_balancer(service, CONNECT_TIMEOUT)));
    loop {
        let (stream, _) = listener.accept().await?;
        if !is_ourselves(&stream) {
            // Abstract sockets have no file permissions; another process must not borrow our identity.
            proxy.events.log(Level::Warn, "control", "refused a foreign process on a control tunnel", &[]);
            continue;
        }
        let (proxy, balancer) = (proxy.clone(), balancer.clone());
        tokio::spawn(async move {
            let service = &proxy.settings.control_services[index];
            if let Err(error) = carry(&proxy, service, &balancer, stream).await {
                let fields = [("service", service.name.clone()), ("error", error.to_string())];
                proxy.events.log(Level::Debug, "control", "control tunnel closed", &fields);
            }
        });
    }
}

fn is_ourselves(stream: &UnixStream) -> bool {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    pid.and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id())
}

async fn carry(
    proxy: &Proxy,
    service: &ControlService,
    balancer: &ControlBalancer,
    mut local: UnixStream,
) -> io::Result<()> {
    let waiting = balancer.waits();
    let addrs = proxy.dns()?.resolve(service, &proxy.metrics).await.inspect_err(|_| balancer.unreachable())?;
    balancer.resolved(&addrs);
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{}: no address", service.host));
    for addr in spread(addrs) {
        let tls = service.server_name.as_ref().map(|name| {
            let name: Arc<str> = name.as_str().into();
            ServerId { san: name.clone(), sni: name }
        });
        let connector = Connector {
            addr,
            tls,
            header: None,
            timeout: CONNECT_TIMEOUT,
            keepalive: proxy.settings.outbound_connect_keepalive,
            metrics: None,
            identity: proxy.identity.clone(),
        };
        match connector.connect(None).await {
            Ok(mut conn) => {
                waiting.passed();
                let _connected = balancer.connected(addr);
                return splice(&mut local, &mut conn).await;
            }
            Err(failure) => last = io::Error::other(failure.to_string()),
        }
    }
    balancer.unreachable();
    Err(last)
}

/// Replicas share the load: start at a different one each time.
fn spread<T>(mut addrs: Vec<T>) -> Vec<T> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if !addrs.is_empty() {
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % addrs.len();
        addrs.rotate_left(turn);
    }
    addrs
}
