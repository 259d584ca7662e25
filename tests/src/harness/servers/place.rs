//! Where a server listens: a port of 127.0.0.1 or a path; and one exchange with whoever listens there.

use std::fmt::{Display, Formatter};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

/// A server that is silent for so long is hung.
const SILENCE: Duration = Duration::from_secs(30);

/// An address to listen at; prints as the report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// 127.0.0.1, this port.
    Tcp(u16),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Place {
    /// A port that was free just now. Nobody listens there meanwhile, so that a session does not
    /// hold a listener of this process.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_port() -> Result<Self> {
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let held = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).context("a free port")?;
        bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).context("a free port")?;
        let address: SockaddrIn = getsockname(held.as_raw_fd()).context("a free port")?;
        Ok(Self::Tcp(address.port()))
    }

    /// Whether a listener of this name is the one here. haproxy binds to a temporary name, which
    /// the kernel keeps, and then renames the file.
    pub(super) fn is(&self, local: &str) -> bool {
        let rest = local.strip_prefix(&self.to_string());
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_suffix(".tmp").is_some_and(is_pid))
    }

    /// A path in a directory.
    pub fn socket(dir: &Path, name: &str) -> Self {
        Self::Unix(dir.join(name))
    }

    /// Its port; none for a path.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(port) => Some(*port),
            Self::Unix(_) => None,
        }
    }
}

/// A dot and a number.
fn is_pid(text: &str) -> bool {
    text.strip_prefix('.').is_some_and(|digits| digits.parse::<u32>().is_ok())
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "{}", SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port)),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One connection: sends `question`, and gives all that comes until the server closes.
///
/// # Errors
/// When the server cannot be reached, or is silent for long.
pub fn exchange(place: &Place, question: &[u8]) -> Result<String> {
    match place {
        Place::Tcp(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port))
            .and_then(|stream| stream.set_read_timeout(Some(SILENCE)).map(|()| stream))
            .and_then(|stream| talk(stream, question)),
        Place::Unix(path) => UnixStream::connect(path)
            .and_then(|stream| stream.set_read_timeout(Some(SILENCE)).map(|()| stream))
            .and_then(|stream| talk(stream, question)),
    }
    .with_context(|| format!("{place} did not answer"))
}

fn talk(mut stream: impl Read + Write, question: &[u8]) -> std::io::Result<String> {
    stream.write_all(question)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_renamed_is_known_by_its_temporary_name() {
        let place = Place::Unix("/run/a.sock".into());
        assert!(place.is("/run/a.sock") && place.is("/run/a.sock.12.tmp"));
        assert!(!place.is("/run/a.sock2") && !Place::Tcp(80).is("127.0.0.1:8080"));
    }
}
