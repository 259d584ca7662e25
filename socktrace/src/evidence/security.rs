//! Which security modules may have denied a connect.

use nix::errno::Errno;

use crate::{
    diagnose::case::{Case, Security},
    host::{Host, parse_apparmor_label},
};

/// Where the errno is one of theirs, or none is known yet. `has_programs`: whether BPF programs are loaded that decide
/// as a module.
pub(super) fn gather(host: &Host, has_programs: Option<bool>, case: &mut Case) {
    if !matches!(case.errno, None | Some(Errno::EACCES | Errno::EPERM)) {
        return;
    }
    let modules = host.read_security_modules().ok();
    let labels = case.client.labels.clone();
    // Before 5.8 the first module's label is the only one.
    let has_apparmor = modules.as_ref().is_some_and(|found| found.has("apparmor"));
    let apparmor = labels.apparmor.as_ref().or(labels.current.as_ref()).filter(|_| has_apparmor);
    case.security = Some(Security {
        apparmor: apparmor.and_then(|label| Some(parse_apparmor_label(label)?.mode)),
        modules: modules.map(|found| found.names),
        selinux_enforces: host.read_selinux_enforcing().ok(),
        has_programs,
        label: labels.current,
    });
}
