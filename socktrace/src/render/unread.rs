//! What a session could not read of listeners and their owners, in sentences: the fact and what
//! follows from it.

use crate::event::Unread;

/// A sentence for each kind; none if everything could be read.
pub(super) fn unread_sentences(unread: &Unread) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut tell = |count: u64, what: &str, so: &str| {
        if count > 0 {
            sentences.push(format!("{what}: {count}, so {so}"));
        }
    };
    let queues = "the queues of their listeners are unknown";
    let elsewhere = "the queues of their listeners are unknown (socktrace listeners shows them)";
    let unnamed = "owners of listeners may be missing";
    tell(
        unread.namespaces_of.into(),
        "processes that would not show their network namespace",
        queues,
    );
    tell(unread.not_entered.len() as u64, "network namespaces that may not be entered", elsewhere);
    tell(unread.not_listed.into(), "lists of listeners that were refused", "queues are unknown");
    tell(
        unread.interrupted.into(),
        "lists of listeners that changed each time while they were read",
        "a queue's peak may be missed",
    );
    tell(unread.malformed.into(), "listeners that were not understood", "their queues are unknown");
    tell(
        unread.descriptors_of.unwrap_or(0).into(),
        "processes that would not show their descriptors",
        unnamed,
    );
    tell(
        unread.uninvestigated,
        "incidents that nobody looked into for want of time",
        "only what their errno tells is said of them",
    );
    tell(unread.owners_left_out, "owners that were too many to keep", "they are not shown");
    if unread.descriptors_of.is_none() {
        sentences.push(format!("no process could be read in /proc, so {unnamed}"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_where_everything_could_be_read() {
        let unread = Unread { descriptors_of: Some(0), ..Unread::default() };
        assert!(unread_sentences(&unread).is_empty());
    }

    #[test]
    fn every_kind_is_told_with_its_number() {
        let unread = Unread {
            namespaces_of: 1,
            not_entered: vec![7, 8],
            not_listed: 3,
            interrupted: 4,
            malformed: 5,
            descriptors_of: Some(6),
            uninvestigated: 7,
            owners_left_out: 8,
        };
        let told = unread_sentences(&unread);
        let numbers: Vec<&str> =
            told.iter().filter_map(|sentence| sentence.split([':', ',']).nth(1)).collect();
        assert_eq!(numbers, [" 1", " 2", " 3", " 4", " 5", " 6", " 7", " 8"]);
        let unknown = unread_sentences(&Unread::default());
        assert!(matches!(unknown.as_slice(), [only] if only.contains("/proc")), "{unknown:?}");
    }
}
