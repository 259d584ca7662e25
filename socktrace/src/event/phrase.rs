//! A sentence that may name what a traced process chose.
//!
//! Owns the parts of a sentence, so that words of socktrace and bytes of others stay apart until a
//! sink prints them: it escapes names, and quotes words of a command line, in its own way.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One part of a [`Phrase`].
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// socktrace's own words.
    Text(Cow<'static, str>),
    /// A command name, path or socket name as the kernel gave it; an abstract socket name has its
    /// leading NUL.
    Name(
        #[serde(with = "super::written::text")]
        #[schemars(with = "String")]
        Vec<u8>,
    ),
    /// The same as one word of a command that a person may copy into a shell.
    Word(
        #[serde(with = "super::written::text")]
        #[schemars(with = "String")]
        Vec<u8>,
    ),
}

/// A clause or sentence, without its full stop.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Phrase(pub Vec<Part>);

impl Phrase {
    /// Whether nothing is said.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `self`, then `next`.
    #[must_use]
    pub fn then(mut self, next: impl Into<Self>) -> Self {
        self.0.extend(next.into().0);
        self
    }
}

impl From<Part> for Phrase {
    fn from(part: Part) -> Self {
        Self(vec![part])
    }
}

impl From<&'static str> for Phrase {
    fn from(text: &'static str) -> Self {
        if text.is_empty() { Self::default() } else { Part::Text(text.into()).into() }
    }
}

impl From<String> for Phrase {
    fn from(text: String) -> Self {
        if text.is_empty() { Self::default() } else { Part::Text(text.into()).into() }
    }
}

impl From<Option<Self>> for Phrase {
    fn from(phrase: Option<Self>) -> Self {
        phrase.unwrap_or_default()
    }
}

/// Bytes that somebody else chose, to be named.
pub fn name(bytes: &[u8]) -> Phrase {
    Part::Name(bytes.to_vec()).into()
}

/// Bytes that somebody else chose, as one word of a command.
pub fn word(bytes: &[u8]) -> Phrase {
    Part::Word(bytes.to_vec()).into()
}

/// Puts a phrase together: each argument is text of socktrace's own (`&'static str`, `String`) or a
/// [`Phrase`].
macro_rules! phrase {
    ($($part:expr),* $(,)?) => {
        $crate::event::Phrase::default()$(.then($part))*
    };
}

pub(crate) use phrase;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words_stay_apart_from_text() {
        let phrase = phrase!["chmod g+w ", word(b"a b"), String::new(), "; see ", name(b"\x1b")];
        let expected = [
            Part::Text("chmod g+w ".into()),
            Part::Word(b"a b".to_vec()),
            Part::Text("; see ".into()),
            Part::Name(b"\x1b".to_vec()),
        ];
        assert_eq!(phrase.0, expected);
        assert!(phrase![""].is_empty());
    }
}
