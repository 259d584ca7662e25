//! The step `other`: what else a process waits on, counted: netlink, eventfd, epoll, `io_uring` and so on.

use super::{
    Facts,
    words::{count, knows_all, note_unread_descriptors},
};
use crate::{diagnose::Check, event::Phrase, host::DescriptorClass};

/// What is counted here; sockets and pipes have steps of their own.
const CLASSES: [(DescriptorClass, &str); 11] = [
    (DescriptorClass::EventFd, "eventfd"),
    (DescriptorClass::SignalFd, "signalfd"),
    (DescriptorClass::TimerFd, "timerfd"),
    (DescriptorClass::Epoll, "epoll"),
    (DescriptorClass::IoUring, "io_uring"),
    (DescriptorClass::SharedMemory, "shared memory object"),
    (DescriptorClass::MessageQueue, "POSIX message queue"),
    (DescriptorClass::Fifo, "named FIFO"),
    (DescriptorClass::Inotify, "inotify"),
    (DescriptorClass::Fanotify, "fanotify"),
    (DescriptorClass::PidFd, "pidfd"),
];

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("other", "other means of communication that it has open");
    let known = &facts.descriptors;
    for (class, name) in CLASSES {
        let Some(number) = known.counts.get(&class).filter(|number| **number != 0) else {
            continue;
        };
        let detail = match class {
            DescriptorClass::EventFd => event_counts(known.event_counts),
            _ => String::new(),
        };
        check.facts.push(format!("{}{detail}", count(*number, name)).into());
    }
    for (protocol, number) in &facts.sockets.others {
        check.facts.push(format!("{} of {protocol}", count(*number, "socket")).into());
    }
    if facts.sockets.mptcp != 0 {
        check.facts.push(count(facts.sockets.mptcp, "Multipath TCP socket").into());
        check.unseen.push("which Multipath TCP connections are its own".into());
    }
    if check.facts.is_empty() && knows_all(facts) {
        check.facts.push(Phrase::from("it has none"));
    }
    note_unread_descriptors(&mut check, facts);
    check
}

fn event_counts([zero, above, unknown]: [u64; 3]) -> String {
    let each = [(zero, "at 0, whose readers wait"), (above, "above 0"), (unknown, "not read")];
    let each: Vec<String> = each
        .iter()
        .filter(|(number, _)| *number != 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::{DescriptorFacts, SocketFacts};
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_open_is_counted_with_what_is_known_of_it() {
        let counts = [
            (DescriptorClass::EventFd, 3),
            (DescriptorClass::Epoll, 1),
            (DescriptorClass::Socket, 9),
        ];
        let descriptors = DescriptorFacts {
            counts: BTreeMap::from(counts),
            event_counts: [2, 1, 0],
            ..DescriptorFacts::default()
        };
        let others = BTreeMap::from([("netlink".to_owned(), 2)]);
        let sockets = SocketFacts { others, mptcp: 1, ..SocketFacts::default() };
        let said = check(&Facts { descriptors, sockets, ..Facts::default() });
        let expected: [Phrase; 4] = [
            "3 eventfds (2 at 0, whose readers wait, 1 above 0)".into(),
            "1 epoll".into(),
            "2 sockets of netlink".into(),
            "1 Multipath TCP socket".into(),
        ];
        assert_eq!(said.facts, expected);
        assert_eq!(said.unseen.len(), 1);
        assert_eq!(check(&Facts::default()).facts, [Phrase::from("it has none")]);
    }
}
