//! What a list of listeners lacks, in sentences: the fact, what follows from it, what to do.

use std::collections::BTreeMap;

use crate::listener::{Listing, Unseen, UnseenHolders};

/// A sentence for each kind of thing that could not be seen; none if the list is whole.
pub fn render_unseen(listing: &Listing) -> Vec<String> {
    let mut sentences = Vec::new();
    namespaces(&listing.unseen_holders, &mut sentences);
    lists(&listing.unseen, &mut sentences);
    owners(&listing.unseen_holders, &mut sentences);
    sentences
}

const WHAT_IT_TAKES: &str = "reading them takes CAP_SYS_PTRACE over those processes, which root on \
                             the host has, and none of them can be read while its execve() hangs";

fn namespaces(unseen: &UnseenHolders, sentences: &mut Vec<String>) {
    if let Some(error) = &unseen.namespaces {
        sentences.push(format!(
            "{error}, so only socktrace's own network namespace was looked into; check that /proc \
             is mounted"
        ));
    }
    if unseen.namespaces_of > 0 {
        sentences.push(format!(
            "the network namespaces of {} could not be read, so the listeners of one that they \
             alone are in are missing; {WHAT_IT_TAKES}",
            processes(unseen.namespaces_of)
        ));
    }
}

fn lists(unseen: &Unseen, sentences: &mut Vec<String>) {
    if let [first, rest @ ..] = unseen.not_entered.as_slice() {
        let others = match rest.len() {
            0 => String::new(),
            count => format!(" (and {count} more like it)"),
        };
        sentences.push(format!("{first}{others}"));
    }
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for (_, error) in &unseen.not_listed {
        *refused.entry(error.to_string()).or_default() += 1;
    }
    for (error, count) in refused {
        let where_else =
            if count > 1 { format!(" (in {count} network namespaces)") } else { String::new() };
        sentences.push(format!("{error}{where_else}"));
    }
    if unseen.malformed > 0 {
        sentences.push(format!(
            "{} answers of the kernel could not be understood, so as many listeners may be \
             missing; compare with ss -ltnx, and report it as a bug",
            unseen.malformed
        ));
    }
    if unseen.interrupted > 0 {
        sentences.push(format!(
            "{} lists of sockets changed each time while they were read, so a listener may be \
             missing; run it again",
            unseen.interrupted
        ));
    }
}

fn owners(unseen: &UnseenHolders, sentences: &mut Vec<String>) {
    if unseen.descriptors_of > 0 {
        sentences.push(format!(
            "the descriptors of {} could not be read, so owners may be missing; {WHAT_IT_TAKES}",
            processes(unseen.descriptors_of)
        ));
    }
    if unseen.left_out > 0 {
        sentences.push(format!(
            "{} owners are not shown, because there are too many to keep; narrow the list by -P, \
             --path or --netns",
            unseen.left_out
        ));
    }
}

fn processes(count: u32) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{
        EnterError,
        sock_diag::{SockDiagError, Subject},
    };

    #[test]
    fn a_whole_list_lacks_nothing() {
        assert!(render_unseen(&Listing::default()).is_empty());
    }

    #[test]
    fn everything_that_is_missing_is_told_once_per_kind() {
        let subject = Subject::Unix;
        let refused = || {
            let source = std::io::Error::from_raw_os_error(libc::EPERM);
            EnterError::Refused { inode: 9, path: "/proc/1/ns/net".into(), source }
        };
        let no_handler = |netns| (Some(netns), SockDiagError::NoHandler { subject });
        let listing = Listing {
            unseen: Unseen {
                not_entered: vec![refused(), refused()],
                not_listed: vec![no_handler(1), no_handler(2)],
                malformed: 3,
                interrupted: 4,
            },
            unseen_holders: UnseenHolders {
                namespaces_of: 1,
                namespaces: None,
                descriptors_of: 6,
                left_out: 7,
            },
            ..Listing::default()
        };
        let told = render_unseen(&listing);
        let words = [
            "of 1 process could",
            "(and 1 more like it)",
            "(in 2 network namespaces)",
            "3 answers",
            "4 lists",
            "of 6 processes could",
            "7 owners",
        ];
        assert_eq!(told.len(), words.len(), "{told:#?}");
        for (sentence, word) in told.iter().zip(words) {
            assert!(sentence.contains(word), "{sentence}");
        }
        assert!(told[1].contains("Operation not permitted (EPERM)"), "{}", told[1]);
    }
}
