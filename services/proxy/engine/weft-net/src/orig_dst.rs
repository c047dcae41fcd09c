//! Where an intercepted connection was going before the kernel redirected it.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};

use tokio::net::TcpStream;

/// Tests supply their own; production always uses `SoOriginalDst`.
pub trait OriginalDst: Send + Sync + 'static {
    fn lookup(&self, stream: &TcpStream) -> io::Result<SocketAddr>;
}

/// Asks the kernel's connection tracking.
pub struct SoOriginalDst;

const SO_ORIGINAL_DST: libc::c_int = 80;
const IP6T_SO_ORIGINAL_DST: libc::c_int = 80;

impl OriginalDst for SoOriginalDst {
    fn lookup(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let fd = stream.as_raw_fd();
        // An IPv4 connection accepted by a dual-stack socket is tracked as IPv4.
        if stream.local_addr()?.ip().to_canonical().is_ipv4() {
            let addr: libc::sockaddr_in = sockopt(fd, libc::SOL_IP, SO_ORIGINAL_DST)?;
            let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
            Ok(SocketAddr::new(ip.into(), u16::from_be(addr.sin_port)))
        } else {
            let addr: libc::sockaddr_in6 = sockopt(fd, libc::SOL_IPV6, IP6T_SO_ORIGINAL_DST)?;
            Ok(SocketAddr::new(Ipv6Addr::from(addr.sin6_addr.s6_addr).into(), u16::from_be(addr.sin6_port)))
        }
    }
}

/// `T` must be a plain C structure that is valid when zeroed.
fn sockopt<T: Copy>(fd: libc::c_int, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut length = std::mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`, which has that size, and both callers pass a
    // sockaddr type, for which all-zero and every kernel-written pattern are valid.
    unsafe {
        if libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut length) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value.assume_init())
    }
}
