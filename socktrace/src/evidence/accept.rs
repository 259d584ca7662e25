//! What a failing `accept()` has run out of.

use super::is_same;
use crate::{
    diagnose::case::{Case, Descriptors},
    event::Actor,
    host::Host,
};

pub(super) fn gather(host: &Host, actor: &Actor, case: &mut Case) {
    let pid = actor.key.tgid;
    case.client.pid = Some(pid);
    case.client.comm = Some(actor.task.comm.clone());
    let host_wide = host.read_file_limits();
    let mut found =
        Descriptors { host: host_wide.open.zip(host_wide.max), ..Descriptors::default() };
    if is_same(host, actor.key) {
        found.open = host.read_open_fds(pid).ok();
        found.limits = host.read_nofile_limits(pid).ok();
        if let Ok(descriptors) = host.read_descriptors(pid) {
            let named = descriptors.counts.iter();
            found.kinds = named.map(|(class, count)| (class.name().to_owned(), *count)).collect();
        }
    }
    case.descriptors = Some(found);
}
