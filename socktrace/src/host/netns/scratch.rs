//! A network namespace that nobody else is in, with a loopback that is up.
//!
//! Owns unshare(2) and the one flag that loopback needs (netdevice(7)). It ends with its thread.

use std::{
    fs, io, mem,
    os::fd::{AsRawFd, OwnedFd},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// Why there is no such namespace.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} for a network namespace of its own: {source}")]
pub struct ScratchError {
    /// The step that failed.
    action: &'static str,
    /// What the kernel answered.
    source: io::Error,
}

/// Runs `work` in a new network namespace, on a thread that ends with it. Takes `CAP_SYS_ADMIN`.
pub fn in_scratch_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ScratchError> {
    let failed = |action| move |source| ScratchError { action, source };
    thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| failed("unshare(2)")(errno.into()))?;
            bring_up_loopback().map_err(failed("bring loopback up"))?;
            Ok(work())
        };
        let thread =
            thread::Builder::new().spawn_scoped(scope, inside).map_err(failed("start a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// When a TCP listener answers a SYN with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncookies {
    /// Where its queue of requests is full, as kernels do by themselves.
    WhereFull = 1,
    /// Always.
    Always = 2,
}

/// Sets `net.ipv4.tcp_syncookies` of the calling thread's network namespace: one from [`in_scratch_namespace`], of which
/// nothing is left.
pub fn set_syncookies(when: Syncookies) -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", (when as u8).to_string())
}

fn bring_up_loopback() -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    // SAFETY: `ifreq` is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: the request lives through the call, and has a name and the union's flags.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    Errno::result(set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn it_has_a_loopback_that_is_its_own() {
        let outside = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = outside.local_addr().expect("its address");
        let inside = in_scratch_namespace(|| {
            std::net::TcpStream::connect(address).map_err(|error| error.kind())
        });
        let refused = inside.expect("a namespace, as root").expect_err("nobody listens there");
        assert_eq!(refused, io::ErrorKind::ConnectionRefused);
    }
}
