//! Which words of a fix are a command that a person may copy.
//!
//! Only socktrace's own text begins a command; what a process chose is in it as a quoted word at most.

use crate::{
    event::{Part, Phrase},
    render::phrases,
};

/// Commands that fixes name.
const COMMANDS: [&str; 11] = [
    "chmod ",
    "chown ",
    "setfacl ",
    "chattr ",
    "kill ",
    "sysctl ",
    "systemctl ",
    "nft ",
    "ausearch ",
    "journalctl ",
    "socktrace ",
];
/// What ends a command in a sentence.
const ENDS: [&str; 4] = [")", ", ", "; ", " ("];

/// Words of a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) is_command: bool,
}

/// A sentence, cut where a command begins or ends.
pub(super) fn words(phrase: &Phrase) -> Vec<Words> {
    let mut sentence = Sentence::default();
    for part in &phrase.0 {
        match part {
            Part::Text(text) => sentence.take(text),
            Part::Word(_) => sentence.push(&phrases::text(&part.clone().into())),
            Part::Name(_) => {
                sentence.is_command = false;
                sentence.push(&phrases::text(&part.clone().into()));
            }
        }
    }
    sentence.words
}

#[derive(Default)]
struct Sentence {
    words: Vec<Words>,
    /// Whether what follows belongs to a command.
    is_command: bool,
}

impl Sentence {
    fn take(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let cut = if self.is_command { end(rest) } else { begin(rest) };
            let (now, later) = rest.split_at(cut.unwrap_or(rest.len()));
            self.push(now);
            if cut.is_some() {
                self.is_command = !self.is_command;
            }
            rest = later;
        }
    }

    fn push(&mut self, text: &str) {
        match self.words.last_mut().filter(|last| last.is_command == self.is_command) {
            Some(last) => last.text.push_str(text),
            None if text.is_empty() => {}
            None => self.words.push(Words { text: text.to_owned(), is_command: self.is_command }),
        }
    }
}

/// Where a command begins: at a word of its own.
fn begin(text: &str) -> Option<usize> {
    let at = |command: &&str| {
        let found = text.match_indices(*command).map(|(at, _)| at);
        found
            .into_iter()
            .find(|at| text[..*at].chars().next_back().is_none_or(|c| " (".contains(c)))
    };
    COMMANDS.iter().filter_map(at).min()
}

fn end(text: &str) -> Option<usize> {
    ENDS.iter().filter_map(|end| text.find(end)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{name, phrase, word};

    /// The sentence with its commands in brackets.
    fn marked(phrase: &Phrase) -> String {
        let mark = |words: Words| {
            if words.is_command { format!("[{}]", words.text) } else { words.text }
        };
        words(phrase).into_iter().map(mark).collect()
    }

    #[test]
    fn commands_are_told_apart_from_the_words_around_them() {
        for (phrase, expected) in [
            (phrase!["chmod g+w ", word(b"/run/a b")], "[chmod g+w '/run/a b']"),
            (
                phrase!["chmod g+w ", word(b"/run/x"), ", and make the client a member"],
                "[chmod g+w /run/x], and make the client a member",
            ),
            (
                phrase!["start its socket unit (systemctl start ", word(b"a.socket"), ")"],
                "start its socket unit ([systemctl start a.socket])",
            ),
            (
                "let it go on (kill -CONT 7), and look".into(),
                "let it go on ([kill -CONT 7]), and look",
            ),
            ("raise net.core.somaxconn".into(), "raise net.core.somaxconn"),
            (
                "add a route (ip route get ::1 shows it)".into(),
                "add a route (ip route get ::1 shows it)",
            ),
            (Phrase::default(), ""),
        ] {
            assert_eq!(marked(&phrase), expected);
        }
    }

    #[test]
    fn a_name_never_begins_a_command_nor_continues_one() {
        assert_eq!(marked(&phrase!["see ", name(b"kill -9 1")]), "see kill -9 1");
        assert_eq!(marked(&phrase!["kill ", name(b"-9 1")]), "[kill ]-9 1");
    }
}
