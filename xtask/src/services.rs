//! The servers that tests start themselves: their packages are installed, their services never run.
//!
//! Debian starts and enables the service of a package that is installed. `policy-rc.d` is the one
//! place where it asks whether it may start (an environment variable says nothing to systemd);
//! what is enabled is disabled again, so that the next boot starts nothing either.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Packages with a service.
pub(crate) const PACKAGES: &[&str] =
    &["haproxy", "nginx", "php-fpm", "postgresql", "redis-server", "rsyslog"];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// 101: the action is forbidden.
const FORBID: &str = "#!/bin/sh\n\
    # Written by `cargo xtask setup` while it installs packages; where it was left behind, delete it.\n\
    exit 101\n";

const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// No package's script may start a service until this is dropped.
pub(crate) struct NoStarts {
    /// `None` where the machine has a policy of its own.
    written: Option<PathBuf>,
}

impl NoStarts {
    /// Writes a policy. One that is there already is left as it is, unless it is ours, from a setup
    /// that was killed.
    pub(crate) fn begin() -> Result<Self> {
        Self::at(Path::new(POLICY))
    }

    fn at(policy: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(policy);
        match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let ours = fs::read_to_string(policy).is_ok_and(|text| text == FORBID);
                Ok(Self { written: ours.then(|| policy.to_owned()) })
            }
            file => {
                let written = file.and_then(|mut file| file.write_all(FORBID.as_bytes()));
                written.with_context(|| {
                    format!("{} cannot be written: services would start", policy.display())
                })?;
                Ok(Self { written: Some(policy.to_owned()) })
            }
        }
    }
}

impl Drop for NoStarts {
    fn drop(&mut self) {
        let Some(policy) = &self.written else { return };
        if let Err(error) = fs::remove_file(policy) {
            eprintln!(
                "setup: {} was not removed ({error}): no service will start when a package is \
                 installed; delete it",
                policy.display()
            );
        }
    }
}

/// Where units of packages are.
const UNITS: &str = "/lib/systemd/system";

/// What disables the services of these packages, as far as they have one, and stops what the
/// machine's own policy let start.
pub(crate) fn disable(packages: &[&str]) -> Option<Command> {
    let services: Vec<_> = packages.iter().filter(|name| PACKAGES.contains(*name)).collect();
    if services.is_empty() {
        return None;
    }
    let now = if Path::new(SYSTEMD_RUNS).is_dir() { "--now" } else { "--quiet" };
    let units = services.iter().map(|package| unit(package)).collect::<Vec<_>>().join(" ");
    // The shell finds the units whose names have a version, once they are installed.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cd {UNITS} && systemctl --quiet disable {now} {units}")]);
    Some(command)
}

/// The service of a package, as a pattern of the shell.
fn unit(package: &str) -> String {
    match package {
        "php-fpm" => "php*-fpm.service".to_owned(),
        package => format!("{package}.service"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn starts_are_forbidden_for_a_while() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy-rc.d");
        let during = NoStarts::at(&policy)?;
        assert_eq!(Command::new("sh").arg(&policy).status()?.code(), Some(101));
        assert_eq!(fs::metadata(&policy)?.permissions().mode() & 0o111, 0o111);
        drop(during);
        assert!(!policy.exists());
        Ok(())
    }

    #[test]
    fn a_policy_of_the_machine_is_left_as_it_is() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy-rc.d");
        fs::write(&policy, "its own")?;
        drop(NoStarts::at(&policy)?);
        assert_eq!(fs::read_to_string(&policy)?, "its own");
        Ok(())
    }

    #[test]
    fn a_policy_that_a_killed_setup_left_is_removed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy-rc.d");
        fs::write(&policy, FORBID)?;
        drop(NoStarts::at(&policy)?);
        assert!(!policy.exists());
        Ok(())
    }

    #[test]
    fn only_packages_with_a_service_are_disabled() {
        assert!(disable(&["gcc", "wrk"]).is_none());
        let command = disable(&["gcc", "nginx", "php-fpm"]).expect("two have one");
        let script = command.get_args().last().and_then(|it| it.to_str()).unwrap_or_default();
        assert!(script.ends_with(" nginx.service php*-fpm.service"), "{script}");
    }
}
