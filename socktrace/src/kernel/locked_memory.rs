//! The limit on locked memory: before 5.11, kernels count what the BPF maps and programs of a user take, all processes
//! of theirs together, against `RLIMIT_MEMLOCK` (`bpf_charge_memlock()`, `__bpf_prog_charge()`), and say EPERM beyond it.

use std::{error::Error, io, iter};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const UNLIMITED: Rlimit = Rlimit { current: None, maximum: None };

/// Makes a call that takes memory; where it is refused with EPERM and the limit can be lifted, makes it again. CMD gets
/// the limit that socktrace was started with.
pub(super) fn beyond_limit<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && lift() => call(),
        done => done,
    }
}

/// Whether there is a higher limit now: none, or, without `CAP_SYS_RESOURCE`, the hard one.
fn lift() -> bool {
    let limit = getrlimit(Resource::Memlock);
    let hard = Rlimit { current: limit.maximum, ..limit };
    limit.current.is_some()
        && (setrlimit(Resource::Memlock, UNLIMITED).is_ok()
            || hard != limit && setrlimit(Resource::Memlock, hard).is_ok())
}

/// What else EPERM may be for where there still is a limit, in a clause: the condition, and what to do.
pub fn limit_may_refuse(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let causes = iter::successors(Some(error), |error| (*error).source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<io::Error>());
    let is_refused = causes.any(|error| error.raw_os_error() == Some(libc::EPERM));
    let is_limited = getrlimit(Resource::Memlock).current.is_some();
    (is_refused && is_limited).then_some(
        "if it is older than 5.11, socktrace may lock too little memory (RLIMIT_MEMLOCK): run it with CAP_SYS_RESOURCE, \
         or after `ulimit -l unlimited` (LimitMEMLOCK=infinity in a unit)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_another_reason_is_not_tried_again() {
        let mut calls = 0;
        let busy = beyond_limit(|| -> io::Result<()> {
            calls += 1;
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        });
        assert_eq!(
            (calls, busy.map_err(|error| error.raw_os_error())),
            (1, Err(Some(libc::EBUSY)))
        );
    }

    #[test]
    fn a_limit_is_no_reason_for_what_is_not_eperm() {
        let invalid = io::Error::from_raw_os_error(libc::EINVAL);
        assert_eq!(limit_may_refuse(&invalid), None);
    }
}
