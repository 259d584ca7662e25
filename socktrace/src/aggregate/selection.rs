//! The filters that user space applies: all of them to what the kernel counts unfiltered
//! (drops), and the one that only user space can (`--path`).

use globset::GlobMatcher;

use crate::event::{Address, Endpoint};

/// What the user wants to see; empty lists and `None` want everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--path`.
    pub path: Option<GlobMatcher>,
    /// `-P`.
    pub ports: Vec<u16>,
    /// `-4 -6 --unix`, as [`Address::family`] names them.
    pub families: Vec<&'static str>,
    /// Whether `-e` is given: then what has no errno is not wanted.
    pub only_errnos: bool,
    /// Whether filters select processes.
    pub processes: bool,
}

impl Selection {
    /// Whether an address passes. An unknown one passes only where nothing is asked of it.
    pub fn wants(&self, end: &Endpoint) -> bool {
        self.wants_path(end) && self.wants_port(end) && self.wants_family(end)
    }

    /// `--path` alone.
    pub fn wants_path(&self, end: &Endpoint) -> bool {
        let Some(glob) = &self.path else { return true };
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
        self.families.is_empty()
            || end.address.as_ref().is_some_and(|at| self.families.contains(&at.family()))
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
    use globset::Glob;

    use super::*;

    fn unix(name: &[u8]) -> Endpoint {
        Endpoint { address: Some(Address::Unix(name.to_vec())), kind: None }
    }

    #[test]
    fn a_path_filter_matches_paths_and_abstract_names_but_no_tcp_address() {
        let glob = |text| Glob::new(text).ok().map(|glob| glob.compile_matcher());
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
