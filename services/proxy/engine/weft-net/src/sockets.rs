//! Listening, dialling, and asking the kernel where an intercepted connection was going.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel may hold until we accept them.
pub const BACKLOG: i32 = 4096;
// linux/netfilter_ipv6/ip6_tables.h; libc names only the IPv4 one on every target.
const IP6T_SO_ORIGINAL_DST: libc::c_int = 80;

/// Liveness of idle and of stuck connections; None leaves the system's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    pub keepalive: Option<Duration>,
    pub user_timeout: Option<Duration>,
}

/// Bind and listen. Call inside the runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    TcpListener::from_std(socket.into())
}

/// No Nagle delay, and the given liveness.
pub fn configure(stream: &TcpStream, liveness: Liveness) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(time) = liveness.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
    }
    if let Some(timeout) = liveness.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

/// Dial, or fail with TimedOut.
pub async fn connect(address: SocketAddr, timeout: Duration, liveness: Liveness) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connect timed out"))??;
    configure(&stream, liveness)?;
    Ok(stream)
}

/// Where the client meant to go before the firewall redirected it. Errors when the connection was not redirected.
pub fn original_dst(stream: &TcpStream) -> io::Result<SocketAddr> {
    match stream.local_addr()? {
        SocketAddr::V4(_) => original_dst_v4(stream),
        SocketAddr::V6(local) => match local.ip().to_ipv4_mapped() {
            Some(_) => original_dst_v4(stream),
            None => original_dst_v6(stream),
        },
    }
}

fn original_dst_v4(stream: &TcpStream) -> io::Result<SocketAddr> {
    let mut address = libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
    get_option(stream, libc::SOL_IP, libc::SO_ORIGINAL_DST, &mut address)?;
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddr::new(ip.into(), u16::from_be(address.sin_port)))
}

fn original_dst_v6(stream: &TcpStream) -> io::Result<SocketAddr> {
    let mut address = libc::sockaddr_in6 {
        sin6_family: 0,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
        sin6_scope_id: 0,
    };
    get_option(stream, libc::SOL_IPV6, IP6T_SO_ORIGINAL_DST, &mut address)?;
    Ok(SocketAddr::new(Ipv6Addr::from(address.sin6_addr.s6_addr).into(), u16::from_be(address.sin6_port)))
}

fn get_option<T>(stream: &TcpStream, level: libc::c_int, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is a plain C struct of exactly `length` bytes that outlives the call, and the descriptor is open
    // for as long as `stream` is borrowed. The kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), level, name, std::ptr::from_mut(value).cast(), &raw mut length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
