//! The filters that user space applies: to a live session those that the kernel cannot apply (`--path`,
//! and all of them to drops, which it counts unfiltered), to a saved one all.

use globset::{Glob, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::TaskKey;

use crate::escape::{escape, unescape};
use crate::event::{Address, Endpoint, Owner, Task};

/// What the user wants to see; empty lists and `None` want everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Selection {
    /// `-p`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// `-n`, raw.
    #[serde(with = "crate::event::written::text_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub comm: Option<Vec<u8>>,
    /// `-u`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `--path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathGlob>,
    /// `-P`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// `-4 -6 --unix`, as [`Address::family`] names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// `-e`: then what has no errno is not wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errnos: Vec<u32>,
    /// Whether only CMD and its descendants are recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
    /// Whether the hooks have applied what they can.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_kernel: bool,
}

/// A pattern for names of Unix sockets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PathGlob(GlobMatcher);

impl PathGlob {
    /// In the syntax of globset.
    pub fn parse(pattern: &str) -> Result<Self, globset::Error> {
        Ok(Self(Glob::new(pattern)?.compile_matcher()))
    }
}

impl TryFrom<String> for PathGlob {
    type Error = globset::Error;

    fn try_from(pattern: String) -> Result<Self, globset::Error> {
        let pattern = unescape(&pattern).and_then(|bytes| String::from_utf8(bytes).ok());
        Self::parse(&pattern.unwrap_or_default())
    }
}

impl From<PathGlob> for String {
    fn from(glob: PathGlob) -> Self {
        escape(glob.0.glob().glob().as_bytes()).into_owned()
    }
}

impl Selection {
    /// Whether filters select processes.
    pub const fn selects_processes(&self) -> bool {
        self.followed || !self.pids.is_empty() || self.comm.is_some() || self.uid.is_some()
    }

    /// Whether [`Self::wants_end`] looks at the address at all.
    pub const fn asks_for_ends(&self) -> bool {
        let by_hooks = !self.ports.is_empty() || !self.families.is_empty();
        self.path.is_some() || (by_hooks && !self.in_kernel)
    }

    /// Whether [`Self::wants_task`] looks at the process at all.
    pub const fn asks_for_tasks(&self) -> bool {
        self.selects_processes() && !self.in_kernel
    }

    /// Whether what has no errno is not wanted.
    pub const fn only_errnos(&self) -> bool {
        !self.errnos.is_empty()
    }

    /// Whether what this process did is wanted.
    pub fn wants_task(&self, key: TaskKey, task: Option<&Task>) -> bool {
        self.in_kernel
            || (self.wants_pid(key.tgid)
                && self.wants_comm(task.map(|task| task.comm.as_slice()))
                && self.wants_uid(task.map(|task| task.uid)))
    }

    /// The same of a process of which the real uid at that moment is known.
    pub fn wants_client(&self, key: TaskKey, uid: u32, task: Option<&Task>) -> bool {
        self.in_kernel
            || (self.wants_pid(key.tgid)
                && self.wants_comm(task.map(|task| task.comm.as_slice()))
                && self.wants_uid(Some(uid)))
    }

    /// Whether a holder of a listener is one of the processes that are wanted, if its real uid is this.
    pub fn wants_owner(&self, owner: &Owner, uid: Option<u32>) -> bool {
        self.wants_pid(owner.pid) && self.wants_comm(Some(&owner.comm)) && self.wants_uid(uid)
    }

    /// `-e`; none where nothing failed.
    pub fn wants_errno(&self, errno: Option<u32>) -> bool {
        self.in_kernel
            || self.errnos.is_empty()
            || errno.is_some_and(|errno| self.errnos.contains(&errno))
    }

    /// An address, of what the hooks have filtered.
    pub fn wants_end(&self, end: &Endpoint) -> bool {
        if self.in_kernel { self.wants_path(end) } else { self.wants(end) }
    }

    fn wants_pid(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    fn wants_comm(&self, comm: Option<&[u8]>) -> bool {
        self.comm.is_none() || self.comm.as_deref() == comm
    }

    fn wants_uid(&self, uid: Option<u32>) -> bool {
        self.uid.is_none() || self.uid == uid
    }

    /// Whether an address passes. An unknown one passes only where nothing is asked of it.
    pub fn wants(&self, end: &Endpoint) -> bool {
        self.wants_path(end) && self.wants_port(end) && self.wants_family(end)
    }

    /// `--path` alone.
    pub fn wants_path(&self, end: &Endpoint) -> bool {
        let Some(PathGlob(glob)) = &self.path else { return true };
        match &end.address {
            Some(Address::Unix(name)) => glob.is_match(as_path(name)),
            _ => false,
        }
    }

    fn wants_port(&self, end: &Endpoint) -> bool {
        self.ports.is_empty()
            || matches!(&end.address, Some(Address::Inet(at)) if self.ports.contains(&at.port()))
    }

    fn wants_family(&self, end: &Endpoint) -> bool {
        let family = end.address.as_ref().map(Address::family);
        self.families.is_empty()
            || family.is_some_and(|family| self.families.iter().any(|wanted| wanted == family))
    }
}

/// An abstract name is matched as it is printed, with `@` for its leading NUL.
fn as_path(name: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = name.to_vec();
    if let Some(first @ 0) = bytes.first_mut() {
        *first = b'@';
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(name: &[u8]) -> Endpoint {
        Endpoint { address: Some(Address::Unix(name.to_vec())), kind: None }
    }

    #[test]
    fn a_path_filter_matches_paths_and_abstract_names_but_no_tcp_address() {
        let glob = |text| PathGlob::parse(text).ok();
        let run = Selection { path: glob("/run/*.sock"), ..Selection::default() };
        assert!(run.wants(&unix(b"/run/a.sock")));
        assert!(!run.wants(&unix(b"/tmp/a.sock")));
        let at = Selection { path: glob("@app*"), ..Selection::default() };
        assert!(at.wants(&unix(b"\0app/1")));
        let tcp = "127.0.0.1:80".parse().ok().map(Address::Inet);
        assert!(!run.wants(&Endpoint { address: tcp, kind: None }));
    }

    #[test]
    fn an_unknown_address_passes_only_where_nothing_is_asked() {
        assert!(Selection::default().wants(&Endpoint::default()));
        let ports = Selection { ports: vec![80], ..Selection::default() };
        assert!(!ports.wants(&Endpoint::default()));
    }
}
