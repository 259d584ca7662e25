//! What holds the owner of a listener up.

use super::words::holders;
use crate::{
    diagnose::{
        case::{Case, Holder},
        rule::{Cause, Outcome},
    },
    event::{Certainty, Hold, Phrase, Severity, name, phrase},
};

/// Everybody who may accept what is asked about.
fn all(case: &Case) -> Option<&[Holder]> {
    let unix = case.unix.as_ref().and_then(|unix| unix.there.first());
    let unix = unix.and_then(|socket| socket.holders.as_deref());
    unix.or_else(|| super::tcp::met_by(case)?.holders.as_deref())
}

pub(super) fn held_up(case: &Case) -> Outcome {
    let Some(owners) = all(case) else { return Outcome::Clear };
    // One that could accept is enough.
    let is_stuck = |owner: &Holder| owner.hold.is_some_and(|hold| hold < Hold::Running);
    if owners.is_empty() || !owners.iter().all(is_stuck) {
        return Outcome::Clear;
    }
    let Some((hold, first)) =
        owners.iter().filter_map(|it| Some((it.hold?, it))).min_by_key(|it| it.0)
    else {
        return Outcome::Clear;
    };
    let fix: Phrase = match hold {
        Hold::Stopped => {
            format!("let it go on (kill -CONT {}), and find who stopped it", first.pid).into()
        }
        Hold::Frozen => "thaw its cgroup (cgroup.freeze), and find who froze it".into(),
        Hold::NoDescriptors => {
            "raise its limit (ulimit -n, LimitNOFILE=), or find what it does not close".into()
        }
        Hold::ShortOfMemory => "raise memory.high and memory.max (MemoryHigh=, MemoryMax=), or \
             net.ipv4.tcp_mem, or let it use less"
            .into(),
        Hold::Throttled | Hold::Running | Hold::Asleep => {
            "raise its CPU quota (cpu.max, CPUQuota=)".into()
        }
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: phrase![name(&first.comm), format!(" (pid {})", first.pid)],
        fact: phrase![
            holders(Some(owners)),
            format!(" is {}", first.activity.as_deref().unwrap_or("held up")),
        ],
        consequence: match hold {
            // They may run now and then.
            Hold::Throttled | Hold::ShortOfMemory => {
                "it accepts late, and connections wait until its queue is full"
            }
            _ => "it does not accept, and connections wait until its queue is full",
        }
        .into(),
        fix,
        evidence: Vec::new(),
    })
}
