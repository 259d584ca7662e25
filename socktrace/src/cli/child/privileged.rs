//! CMD's file may give it rights that its user does not have: then that is told.

use std::{
    ffi::OsStr,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use crate::render::escape::escape;

const SETUID: u32 = 0o4000;
/// With the group's execute bit: without it, it is for locks and not for rights.
const SETGID: u32 = 0o2010;

/// What a file says about whoever executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    mode: u32,
    uid: u32,
    gid: u32,
    has_capabilities: bool,
}

/// One line for stderr, if CMD will have other rights than the user that it runs as.
pub(super) fn note(program: &OsStr, (uid, gid): (u32, u32)) -> Option<String> {
    let path = find(program)?;
    let metadata = std::fs::metadata(&path).ok()?;
    let capabilities = rustix::fs::getxattr(&path, c"security.capability", &mut [0u8; 64]);
    let file = File {
        mode: metadata.permissions().mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        has_capabilities: capabilities.is_ok(),
    };
    let what = gains(file, uid, gid)?;
    let shown = escape(path.as_os_str().as_bytes());
    let but = if nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        ", which no_new_privs forbids here: it may fail"
    } else {
        "; what it does is recorded all the same"
    };
    Some(format!("socktrace: {shown} {what}{but}\n"))
}

/// What executing the file changes for this user.
fn gains(file: File, uid: u32, gid: u32) -> Option<String> {
    if file.mode & SETUID != 0 && file.uid != uid {
        return Some(format!("is setuid and runs as uid {}, not {uid}", file.uid));
    }
    if file.mode & SETGID == SETGID && file.gid != gid {
        return Some(format!("is setgid and runs with gid {}, not {gid}", file.gid));
    }
    (file.has_capabilities && uid != 0)
        .then(|| format!("has capabilities of its own, beside those of uid {uid}"))
}

/// Where execvp(3) finds it.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    let can_execute = |path: &Path| {
        let metadata = path.metadata();
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| can_execute(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_the_rights_of_this_user_is_told() {
        let plain = File { mode: 0o755, uid: 0, gid: 0, has_capabilities: false };
        let setuid = File { mode: 0o4755, ..plain };
        let setgid = File { mode: 0o2755, gid: 4, ..plain };
        let capable = File { has_capabilities: true, ..plain };
        assert_eq!(gains(plain, 7, 7), None);
        assert!(gains(setuid, 7, 7).is_some_and(|it| it.contains("setuid")));
        assert_eq!(gains(setuid, 0, 0), None);
        assert!(gains(setgid, 0, 0).is_some_and(|it| it.contains("gid 4")));
        assert_eq!(gains(setgid, 7, 4), None);
        assert_eq!(gains(File { mode: 0o2644, gid: 4, ..plain }, 7, 7), None);
        assert!(gains(capable, 7, 7).is_some());
        assert_eq!(gains(capable, 0, 0), None);
    }
}
