//! The descriptors of the process, sorted into what each step looks at.

use std::collections::BTreeMap;

use crate::{
    diagnose::process::DescriptorFacts,
    event::Phrase,
    host::{DescriptorKind, Host, SocketProtocol},
};

/// Sockets of the process that are looked for.
const MOST_SOCKETS: usize = 100_000;
/// Pipes of the process that are looked at.
const MOST_PIPES: usize = 10_000;

/// What the process holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The numbers.
    pub(super) facts: DescriptorFacts,
    /// Its sockets by inode, each once.
    pub(super) sockets: BTreeMap<u64, Option<SocketProtocol>>,
    /// Sockets beyond those.
    pub(super) more_sockets: u64,
    /// Its pipes by inode: whether it may read and write, by any of its descriptors.
    pub(super) pipes: BTreeMap<u64, (Option<bool>, Option<bool>)>,
    /// Whether there are more pipes.
    pub(super) more_pipes: bool,
}

pub(super) fn read(host: &Host, pid: u32) -> Held {
    let mut held = Held::default();
    held.facts.limits = host.read_nofile_limits(pid).ok();
    held.facts.host = host.read_file_limits();
    match host.read_descriptors(pid) {
        Ok(found) => {
            for descriptor in &found.kept {
                held.add(&descriptor.kind);
            }
            held.facts.counts = found.counts;
            held.facts.left_out = found.left_out;
        }
        Err(error) => {
            let who_may =
                if error.is_forbidden() { " (root, or CAP_SYS_PTRACE, may read them)" } else { "" };
            held.facts.refusal = Some(Phrase::from(format!("{error}{who_may}")));
        }
    }
    held
}

impl Held {
    fn add(&mut self, kind: &DescriptorKind) {
        match kind {
            DescriptorKind::Socket { inode, protocol } => {
                self.add_socket(*inode, protocol.as_ref());
            }
            DescriptorKind::Pipe { inode, reads, writes } => {
                if self.pipes.len() >= MOST_PIPES && !self.pipes.contains_key(inode) {
                    self.more_pipes = true;
                    return;
                }
                let known = self.pipes.entry(*inode).or_insert((Some(false), Some(false)));
                *known = (either(known.0, *reads), either(known.1, *writes));
            }
            DescriptorKind::EventFd { count } => {
                let [zero, above, unknown] = &mut self.facts.event_counts;
                let which = match count {
                    Some(0) => zero,
                    Some(_) => above,
                    None => unknown,
                };
                *which += 1;
            }
            _ => {}
        }
    }

    fn add_socket(&mut self, inode: u64, protocol: Option<&SocketProtocol>) {
        if self.sockets.len() >= MOST_SOCKETS && !self.sockets.contains_key(&inode) {
            self.more_sockets += 1;
            return;
        }
        let known = self.sockets.entry(inode).or_default();
        *known = known.take().or_else(|| protocol.cloned());
    }
}

/// Yes if one is, no if both are not.
fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_open_for_what_any_of_its_descriptors_is() {
        let mut held = Held::default();
        for (reads, writes) in [(true, false), (false, true)] {
            held.add(&DescriptorKind::Pipe { inode: 5, reads: Some(reads), writes: Some(writes) });
        }
        assert_eq!(held.pipes[&5], (Some(true), Some(true)));
        held.add(&DescriptorKind::Pipe { inode: 6, reads: Some(false), writes: None });
        assert_eq!(held.pipes[&6], (Some(false), None));
    }

    #[test]
    fn sockets_beyond_the_bound_are_counted() {
        let mut held = Held::default();
        for inode in 0..MOST_SOCKETS as u64 + 7 {
            held.add_socket(inode, None);
        }
        held.add_socket(3, Some(&SocketProtocol::Unix));
        assert_eq!((held.sockets.len(), held.more_sockets), (MOST_SOCKETS, 7));
        assert_eq!(held.sockets[&3], Some(SocketProtocol::Unix));
    }
}
