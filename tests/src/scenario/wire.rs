//! Two network namespaces with a wire between them: what one sends to the other's address arrives there, as it
//! does in a container.
//!
//! Owns the two ends, each an interface of its namespace by `/dev/net/tun`, and the copying between them. What is
//! sent to any other address of the network goes through the wire, too, and nobody answers.

use std::fs::File;
use std::io::{Read, Write};
use std::mem;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::netns;

/// The longest packet: more than the interfaces take.
const PACKET: usize = 65_536;
/// `TUNSETIFF`, `include/uapi/linux/if_tun.h`: packets with IP headers, and nothing before them.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const NAME: &[u8] = b"wire0";

/// A namespace with one end of a wire.
pub struct Place {
    namespace: File,
    end: File,
}

/// Two places, and the wire between them.
pub struct Wire {
    /// One of them.
    pub near: Rc<Place>,
    /// The other one.
    pub far: Rc<Place>,
}

impl Wire {
    /// Two namespaces with an address each in one network of 24 bits. Nothing passes before [`Wire::carry`].
    ///
    /// # Errors
    /// When the kernel refuses namespaces or interfaces.
    pub fn between(near: Ipv4Addr, far: Ipv4Addr) -> Result<Self> {
        Ok(Self { near: Rc::new(Place::make(near)?), far: Rc::new(Place::make(far)?) })
    }

    /// Copies packets both ways until this process ends.
    ///
    /// # Errors
    /// When the ends cannot be shared with threads.
    pub fn carry(&self) -> Result<()> {
        for (from, to) in [(&self.near, &self.far), (&self.far, &self.near)] {
            let (from, to) = (from.end.try_clone()?, to.end.try_clone()?);
            thread::spawn(move || copy(&from, &to));
        }
        Ok(())
    }
}

fn copy(mut from: &File, mut to: &File) {
    let mut packet = vec![0; PACKET];
    while let Ok(length) = from.read(&mut packet) {
        // A packet that the other side does not take is lost, as on any wire.
        let _lost = to.write(&packet[..length]);
    }
}

impl Place {
    fn make(address: Ipv4Addr) -> Result<Self> {
        // Namespaces are of threads.
        let made = thread::spawn(move || {
            netns::enter()?;
            let path = "/proc/thread-self/ns/net";
            let namespace = File::open(path).context(path)?;
            Ok::<_, anyhow::Error>(Self { namespace, end: interface(address)? })
        });
        made.join().map_err(|_| anyhow!("the thread panicked"))?
    }

    /// Moves this thread there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn enter(&self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("setns")
    }
}

/// An interface of this namespace with this address; the file is the wire.
fn interface(address: Ipv4Addr) -> Result<File> {
    let path = "/dev/net/tun";
    let end = File::options().read(true).write(true).open(path).context(path)?;
    let mut request = netns::request(NAME);
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    netns::ask(&end, TUNSETIFF, &mut request).context("TUNSETIFF")?;
    let socket = netns::socket()?;
    for (command, address) in
        [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::new(255, 255, 255, 0))]
    {
        let address = libc::sockaddr_in {
            sin_family: libc::sa_family_t::try_from(libc::AF_INET)?,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain data of the same size: an address of a family that its first field names.
        request.ifr_ifru.ifru_addr =
            unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
        netns::ask(&socket, command, &mut request).context("an address")?;
    }
    netns::bring_up(NAME)?;
    Ok(end)
}
