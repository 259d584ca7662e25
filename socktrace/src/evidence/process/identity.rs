//! Who the process is, where it lives, what its threads do.

use crate::{
    diagnose::process::{Held, Identity, Process},
    event::Hold,
    host::{Container, Host, Runtime, container, systemd_unit},
    stall::{Activity, read_activity},
};

/// Kinds of namespace that are compared with socktrace's own.
const NAMESPACES: [&str; 5] = ["net", "mnt", "pid", "user", "ipc"];

pub(super) fn read(host: &Host, pid: u32, comm: Vec<u8>) -> Identity {
    let uid = host.read_uid(pid).ok();
    let accounts = host.read_accounts().unwrap_or_default();
    let cgroup = host.read_cgroup_path(pid).ok().flatten().unwrap_or_default();
    let activity = read_activity(host, pid, None);
    let mut identity = Identity {
        process: Process { pid, comm },
        uid,
        user: uid.and_then(|uid| accounts.user_name(uid)).map(<[u8]>::to_vec),
        unit: systemd_unit(&cgroup).map(<[u8]>::to_vec),
        container: container(&cgroup).as_ref().map(called),
        held: held(&activity),
        activity: activity.describe(),
        futex: host.read_futex_waiters(pid).ok(),
        label: host.read_security_labels(pid).current,
        sandbox: host.read_sandbox(pid).ok(),
        ..Identity::default()
    };
    for kind in NAMESPACES {
        match (host.read_namespace(pid, kind), host.read_namespace(std::process::id(), kind)) {
            (Ok(its), Ok(own)) if its == own => {}
            (Ok(its), Ok(_)) => identity.foreign_namespaces.push((kind, its)),
            _ => identity.hidden_namespaces.push(kind),
        }
    }
    identity
}

/// The id as `docker ps` and `crictl ps` shorten it.
fn called(container: &Container<'_>) -> String {
    let runtime = match container.runtime {
        Runtime::Docker => "docker ",
        Runtime::Containerd => "containerd ",
        Runtime::Crio => "cri-o ",
        Runtime::Podman => "podman ",
        Runtime::Unnamed => "",
    };
    format!("{runtime}{}", container.id.get(..12).unwrap_or(container.id))
}

fn held(activity: &Activity) -> Option<Held> {
    let all = |state: u8| {
        !activity.threads.is_empty() && activity.threads.iter().all(|it| it.state == state)
    };
    match activity.hold() {
        Some(Hold::Frozen) => Some(Held::Frozen),
        Some(Hold::Stopped) if activity.threads.iter().any(|it| it.state == b't') => {
            Some(Held::Traced)
        }
        Some(Hold::Stopped) => Some(Held::Stopped),
        _ if all(b'Z') => Some(Held::Zombie),
        _ => None,
    }
}
