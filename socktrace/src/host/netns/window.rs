//! A look into a network namespace that may not be entered any more.
//!
//! Owns what is opened inside while that is allowed: a `sock_diag` socket, which belongs to the
//! namespace that it was made in, and the file of a limit, which shows that of the namespace that it
//! was opened in (`net_ctl_root`). Reading them takes no capability.
//!
//! A window keeps its namespace alive, with the interfaces in it: close it when nothing else does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::netstat::parse_somaxconn;
use super::super::sock_diag::{Dump, SockDiag, SockDiagError, TcpListener, UnixListener};
use super::{EnterError, NetworkNamespace};

/// What is open inside a namespace.
#[derive(Debug)]
pub struct NamespaceWindow {
    sockets: SockDiag,
    somaxconn: Option<File>,
}

impl NetworkNamespace {
    /// Opens a window, from inside. `Ok(None)` where it may be entered and nothing be opened there, for
    /// want of descriptors.
    pub fn open_window(&self) -> Result<Option<NamespaceWindow>, EnterError> {
        let limit = self.host.somaxconn_path();
        self.enter(|| {
            let sockets = SockDiag::open().ok()?;
            Some(NamespaceWindow { sockets, somaxconn: File::open(&limit).ok() })
        })
    }
}

impl NamespaceWindow {
    /// Descriptors that one takes.
    pub const DESCRIPTORS: u64 = 2;

    /// Its socket, for other questions.
    pub fn sockets(&mut self) -> &mut SockDiag {
        &mut self.sockets
    }

    /// Lists every TCP listener of the namespace.
    pub fn tcp_listeners(&mut self) -> Result<Dump<TcpListener>, SockDiagError> {
        self.sockets.tcp_listeners()
    }

    /// Lists every Unix listener of the namespace.
    pub fn unix_listeners(&mut self) -> Result<Dump<UnixListener>, SockDiagError> {
        self.sockets.unix_listeners()
    }

    /// `net.core.somaxconn` of the namespace.
    pub fn read_somaxconn(&self) -> Option<u32> {
        // A number of 32 bits has 10 digits.
        let mut bytes = [0; 16];
        let length = self.somaxconn.as_ref()?.read_at(&mut bytes, 0).ok()?;
        parse_somaxconn(bytes.get(..length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::host::{Host, in_scratch_namespace};

    #[test]
    fn a_window_shows_its_own_namespace_from_outside() {
        let (said, window) = in_scratch_namespace(|| {
            std::fs::write("/proc/sys/net/core/somaxconn", "77").expect("a limit");
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let inode = rustix::fs::fstat(&listener).expect("fstat").st_ino;
            let found = Host::default().read_network_namespaces().expect("namespaces");
            // Its own one, from here.
            let window = found.all[0].open_window().expect("inside").expect("descriptors");
            ((inode, listener), window)
        })
        .expect("a namespace, as root");
        let mut window = window;
        for _ in 0..3 {
            let found = window.tcp_listeners().expect("a dump").sockets;
            assert_eq!(found.iter().map(|it| it.inode).collect::<Vec<_>>(), [said.0]);
            assert!(window.unix_listeners().expect("a dump").sockets.is_empty());
            assert_eq!(window.read_somaxconn(), Some(77));
        }
    }
}
