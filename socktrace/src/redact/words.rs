//! Sentences: names in them are told apart already; addresses stand in socktrace's own words.

use std::net::{IpAddr, SocketAddr};

use super::{
    Redactor,
    names::{other_tree, socket_name},
};
use crate::event::{Part, Phrase};

/// How the system's errors end.
const OS_ERROR: &str = "(os error ";

impl Redactor {
    pub(super) fn phrase(&mut self, phrase: Phrase) -> Phrase {
        let part = |part| match part {
            Part::Text(text) => Part::Text(self.text(&text).into()),
            Part::Name(bytes) => Part::Name(socket_name(&self.key, &bytes)),
            Part::Word(bytes) => Part::Word(socket_name(&self.key, &bytes)),
        };
        Phrase(phrase.0.into_iter().map(part).collect())
    }

    /// Own words, with the addresses in them replaced.
    pub(super) fn text(&mut self, text: &str) -> String {
        let is_of_address = |it: char| it.is_ascii_hexdigit() || matches!(it, ':' | '.');
        self.pieces(text, is_of_address, Self::address)
    }

    /// What the kernel and the system said to the tracer: addresses, and paths that are not the kernel's own.
    /// A path may have blanks and anything else in it, so nobody knows where it ends: what is behind its beginning is
    /// one name, and of that only the system's error is told.
    pub(super) fn message(&mut self, text: &str) -> String {
        let Some(begin) = path_of_others(text) else { return self.text(text) };
        let (before, path) = text.split_at(begin);
        let error = path.rfind(OS_ERROR).and_then(|at| {
            let number = path[at + OS_ERROR.len()..].split(')').next()?;
            Some((at, std::io::Error::from_raw_os_error(number.parse().ok()?)))
        });
        let end = match &error {
            Some((at, _)) => path[..*at].rfind(": ").unwrap_or(*at),
            None => path.rfind(": ").unwrap_or(path.len()),
        };
        let name = socket_name(&self.key, &path.as_bytes()[..end]);
        let why = error.map_or_else(String::new, |(_, error)| format!(": {error}"));
        [&self.text(before), &*String::from_utf8_lossy(&name), &why].concat()
    }

    /// Replaces pieces of a text: `replace` gives the range in the piece, and what comes there.
    fn pieces(
        &mut self,
        text: &str,
        belongs: impl Fn(char) -> bool,
        mut replace: impl FnMut(&mut Self, &str) -> Option<(usize, usize, String)>,
    ) -> String {
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.find(|it| !belongs(it)).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(length);
            match replace(self, piece) {
                Some((begin, end, instead)) => {
                    redacted.extend([&piece[..begin], &instead, &piece[end..]]);
                }
                None => redacted.push_str(piece),
            }
            let between = after.chars().next().map_or(0, char::len_utf8);
            redacted.push_str(&after[..between]);
            rest = &after[between..];
        }
        redacted
    }

    /// The address in a word of digits, colons and dots: at its start or end may be punctuation.
    fn address(&mut self, word: &str) -> Option<(usize, usize, String)> {
        let is_mark = |character| matches!(character, ':' | '.');
        let begins = [0, word.len() - word.trim_start_matches(is_mark).len()];
        let ends = [word.len(), word.trim_end_matches(is_mark).len()];
        for (begin, end) in begins.into_iter().flat_map(|begin| ends.map(|end| (begin, end))) {
            let Some(candidate) = word.get(begin..end) else { continue };
            if let Ok(ip) = candidate.parse::<IpAddr>() {
                return Some((begin, end, self.addresses.ip(&self.key, ip).to_string()));
            }
            if let Ok(socket) = candidate.parse::<SocketAddr>() {
                return Some((begin, end, self.addresses.socket(&self.key, socket).to_string()));
            }
        }
        None
    }
}

/// Where the first path begins that is not of the kernel's own files.
fn path_of_others(text: &str) -> Option<usize> {
    let begins_word = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|it| !it.is_alphanumeric() && !"._-/".contains(it))
    };
    let is_own = |path: &str| {
        let own = ["/proc/", "/sys/"].iter().any(|own| path.starts_with(own));
        own && other_tree(path.as_bytes()) == 0
    };
    let slashes = text.match_indices('/').map(|(at, _)| at);
    slashes.into_iter().find(|at| begins_word(*at) && !is_own(&text[*at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_own_words_become_the_same_as_elsewhere() {
        let mut redactor = Redactor::new([3; 16]);
        let mut of = |ip: &str| {
            let ip = redactor.addresses.ip(&redactor.key, ip.parse().expect("an address"));
            ip.to_string()
        };
        let (v4, v6) = (of("10.1.2.3"), of("2001:db8::7"));
        for (text, redacted) in [
            ("listens on 10.1.2.3:80 only", format!("listens on {v4}:80 only")),
            ("10.1.2.3 did not answer", format!("{v4} did not answer")),
            ("connect to [2001:db8::7]:80.", format!("connect to [{v6}]:80.")),
            ("by 2001:db8::7: see 10.1.2.3.", format!("by {v6}: see {v4}.")),
            ("tcpdump -ni any host 10.1.2.3 and", format!("tcpdump -ni any host {v4} and")),
        ] {
            assert_eq!(redactor.text(text), redacted);
        }
    }

    #[test]
    fn other_words_stay() {
        let mut redactor = Redactor::new([3; 16]);
        for text in [
            "setfacl -m m::rx ",
            "2 connections wait, the oldest for 3.2 s; it is stopped (SIGSTOP)",
            "net:[4026531836]: mode 0644, capabilities 00000000a80425fb",
            "0.0.0.0:80 and [::1]:80, fs.file-max × 3 …",
            "",
        ] {
            assert_eq!(redactor.text(text), text);
        }
    }

    #[test]
    fn paths_in_messages_are_replaced_but_for_the_kernels_own() {
        let mut redactor = Redactor::new([3; 16]);
        let secret = |redactor: &Redactor, path: &str| {
            String::from_utf8(socket_name(&redactor.key, path.as_bytes())).expect("text")
        };
        let btf = secret(&redactor, "/home/alice/my: vm.btf");
        for (text, redacted) in [
            (
                "cannot read /home/alice/my: vm.btf: Is a directory (os error 21); what else",
                format!("cannot read {btf}: Is a directory (os error 21)"),
            ),
            ("cannot read /home/alice/my: vm.btf: no type", format!("cannot read {btf}")),
            (
                "/proc/kallsyms is there; no '/home/alice/my: vm.btf: no",
                format!("/proc/kallsyms is there; no '{btf}"),
            ),
            ("/sys/kernel/x and/or /proc/1/maps", "/sys/kernel/x and/or /proc/1/maps".to_owned()),
        ] {
            assert_eq!(redactor.message(text), redacted);
        }
    }

    #[test]
    fn no_part_of_a_path_is_left_wherever_it_has_blanks_and_colons() {
        let mut redactor = Redactor::new([3; 16]);
        let parts =
            ["Alice", " Alice", "Alice: Alice", "(Alice", "Alice /Alice", "'", "a;Alice,", "/"];
        for (first, second) in parts.iter().flat_map(|one| parts.map(|two| (one, two))) {
            for path in [
                format!("/home/{first}/{second}"),
                format!("/proc/7/root/{first}/{second}"),
                format!("/{first}{second}/Alice"),
            ] {
                for text in [
                    format!("cannot read {path}: denied; so is /proc/kallsyms"),
                    format!("{path} is missing"),
                    format!("/sys/x: no ({path}); it would need {path}"),
                    format!("{path}: Alice (os error 13) Alice"),
                ] {
                    let told = redactor.message(&text);
                    assert!(!told.contains("Alice"), "{text} becomes {told}");
                }
            }
        }
    }
}
