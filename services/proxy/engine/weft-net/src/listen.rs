//! Opens listening sockets and hands out their connections until the proxy drains.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use weft_proto::engine::log::Level;

use crate::proxy::Proxy;

/// After an error such as too many open files, which only time can end.
const PAUSE: Duration = Duration::from_millis(50);

/// Must be called inside the runtime. Errors name the address. backlog: connections that wait in the kernel.
pub fn bind(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let open = || -> io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM.nonblocking().cloexec(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if addr.ip().is_unspecified() && addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}")))
}

/// Until the proxy drains. Each connection gets a task of its own, counted as in flight until it ends.
pub async fn accept<F, T>(proxy: Arc<Proxy>, listener: TcpListener, handle: F)
where
    F: Fn(Arc<Proxy>, TcpStream) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let drain = proxy.drain.clone();
    let counted = |proxy: Arc<Proxy>, stream| {
        let in_flight = proxy.drain.enter();
        // map, as an async block would keep room for the connection twice.
        handle(proxy, stream).map(|()| drop(in_flight))
    };
    tokio::select! {
        () = drain.begun() => {}
        () = accept_always(proxy, listener, counted) => {}
    }
}

/// Until the runtime ends.
pub async fn accept_always<F, T>(proxy: Arc<Proxy>, listener: TcpListener, handle: F)
where
    F: Fn(Arc<Proxy>, TcpStream) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(handle(proxy.clone(), stream));
            }
            Err(error) => {
                proxy.events.log(Level::Warn, "listen", "cannot accept", &[("error", error.to_string())]);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
