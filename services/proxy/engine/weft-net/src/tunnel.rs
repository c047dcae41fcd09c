//! Tunnels for Python's gRPC clients: plaintext on an abstract Unix socket in, mesh TLS to the control plane out.
//!
//! Only this very process may use them: the kernel says who connects, and anybody else in the pod is turned away, because a
//! tunnel speaks with our identity.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener as StdUnixListener};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;

use crate::dns::{Resolver, loopback, split_authority};
use crate::tls::{Identity, ServerIdentity};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// One control-plane service. server_name is empty for loopback addresses.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub address: String,
    pub server_name: String,
}

/// The abstract socket's name, as Python dials it: `unix-abstract:weft/<pid>/<name>`.
pub fn socket_name(name: &str) -> String {
    format!("weft/{}/{name}", std::process::id())
}

/// Bind the socket. Call inside the runtime.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = StdUnixListener::bind_addr(&UnixAddr::from_abstract_name(socket_name(name))?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Accept for ever. `on_error` hears of every connection that failed before bytes could flow.
pub async fn serve(
    listener: UnixListener,
    target: Target,
    identity: Arc<Identity>,
    resolver: Arc<Resolver>,
    on_error: impl Fn(&Target, &io::Error) + Clone + Send + 'static,
) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                if !is_own_process(&client) {
                    on_error(&target, &io::Error::new(io::ErrorKind::PermissionDenied, "not our own process"));
                    continue;
                }
                let (target, identity, resolver) = (target.clone(), identity.clone(), resolver.clone());
                let on_error = on_error.clone();
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &target, &identity, &resolver).await {
                        on_error(&target, &error);
                    }
                });
            }
            // Out of file descriptors, most likely: wait for some to close rather than spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn is_own_process(client: &UnixStream) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    client.peer_cred().is_ok_and(|peer| peer.pid() == own)
}

async fn carry(
    mut client: UnixStream,
    target: &Target,
    identity: &Arc<Identity>,
    resolver: &Resolver,
) -> io::Result<()> {
    let mut server = connect(target, identity, resolver).await?;
    // A broken connection is the gRPC client's to notice and report; here it is only the end.
    let _ = copy_bidirectional(&mut client, &mut server).await;
    Ok(())
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(target: &Target, identity: &Arc<Identity>, resolver: &Resolver) -> io::Result<Box<dyn Stream>> {
    let (host, port) = split_authority(&target.address)?;
    let tcp = dial(&resolver.resolve(host, port).await?).await?;
    tcp.set_nodelay(true)?;
    if loopback(host).is_some() {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(target.server_name.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", target.server_name)))?;
    let peer = ServerIdentity::dns(target.server_name.clone());
    let connector = TlsConnector::from(identity.client_config(&peer, false));
    let tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, tcp))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out"))??;
    Ok(Box::new(tls))
}

/// The first address that answers, tried from a random one on, so that proxies spread over replicas.
async fn dial(addresses: &[std::net::SocketAddr]) -> io::Result<TcpStream> {
    let start = usize::try_from(rand_u32()).unwrap_or(0) % addresses.len();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for offset in 0..addresses.len() {
        let address = addresses[(start + offset) % addresses.len()];
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address}: connect timed out")),
        }
    }
    Err(last)
}

/// Randomness for spreading, from the hasher's per-process seed and a counter; nothing secret depends on it.
fn rand_u32() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let hashed = RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed));
    (hashed & u64::from(u32::MAX)) as u32
}
