//! The session's header.

use super::Redactor;
use crate::aggregate::{Session, SessionSignal};

impl Redactor {
    /// The session's header. Of the command its name is left, as a pseudonym, and how many arguments it
    /// had.
    #[must_use]
    pub fn session(&mut self, session: Session) -> Session {
        let Session {
            started,
            started_ns,
            host,
            kernel,
            command,
            signals,
            untested,
            somaxconn,
            netns,
        } = session;
        Session {
            started,
            started_ns,
            host: String::from_utf8_lossy(&self.name(host.as_bytes())).into_owned(),
            kernel,
            command: self.command(&command),
            signals: signals.into_iter().map(|signal| self.signal(signal)).collect(),
            untested: untested.map(|why| self.message(&why)),
            somaxconn,
            netns,
        }
    }

    fn command(&self, command: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let Some((program, arguments)) = command.split_first() else { return Vec::new() };
        let mut redacted = vec![self.name(program)];
        match arguments.len() {
            0 => {}
            1 => redacted.push(b"(1 argument)".to_vec()),
            more => redacted.push(format!("({more} arguments)").into_bytes()),
        }
        redacted
    }

    fn signal(&mut self, signal: SessionSignal) -> SessionSignal {
        let SessionSignal { signal, tier, loses, refused } = signal;
        let refused = refused.into_iter().map(|(tier, why)| (tier, self.message(&why))).collect();
        let loses = loses.iter().map(|words| self.message(words)).collect();
        SessionSignal { signal, tier, loses, refused }
    }
}
