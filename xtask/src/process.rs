//! Running other programs: the command line is in every error, and nothing goes through a shell.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The cargo that runs us, not rustup's proxy: a proxy would put its own LLVM on the library path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `command` with our own stdin, stdout and stderr; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = render(command);
    let status = command.status().with_context(|| cannot_start(&line))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); its messages are above");
    }
    Ok(())
}

/// Runs `command` and gives its stdout; stderr is in the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let bytes = capture_bytes(command)?;
    String::from_utf8(bytes).with_context(|| format!("`{}` printed no UTF-8", render(command)))
}

/// Like [`capture`], for output that is no text.
pub(crate) fn capture_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let line = render(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(&line))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, stderr.trim());
    }
    Ok(output.stdout)
}

/// Whether `command` runs and exits with 0; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command line as a person would type it (the environment is left out).
pub(crate) fn render(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| quote(&word.to_string_lossy())).collect();
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The message for a program that did not start at all.
pub(crate) fn cannot_start(line: &str) -> String {
    format!("`{line}` did not start: is it installed? `cargo xtask setup` installs what is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("apt-get");
        command.args(["install", "a b", "it's", "g++"]);
        assert_eq!(render(&command), r"apt-get install 'a b' 'it'\''s' g++");
    }

    #[test]
    fn a_failing_command_is_named_with_its_stderr() {
        let error = capture(Command::new("ls").arg("/nonexistent")).expect_err("ls fails");
        assert!(error.to_string().starts_with("`ls /nonexistent` failed"), "{error}");
    }
}
