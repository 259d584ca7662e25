//! Kernel packages from the archive: by the machine's own apt, or by a private one for suites that the
//! machine does not use.
//!
//! The private one shares nothing with the machine's: its sources, lists and downloads lie below the
//! cache, and what it may trust is Debian's archive keyring.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use crate::{apt_sources, process, setup};

const ETC: &str = "/etc/apt";
const OS_RELEASE: &str = "/etc/os-release";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whom packages are asked of.
pub(crate) struct Apt {
    /// Options of every command, in pairs with `-o`.
    options: Vec<String>,
    /// A private one's directory.
    dir: Option<PathBuf>,
}

impl Apt {
    /// The machine's own, with the lists that it has.
    pub(crate) fn of_machine() -> Self {
        // apt's own user cannot write to root's cache directory; without this it warns each time.
        Self { options: vec!["APT::Sandbox::User=root".to_owned()], dir: None }
    }

    /// A private one for `suites`, in the directory `dir`, with fresh lists.
    pub(crate) fn of_suites(suites: &[String], dir: &Path) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!(
                "{KEYRING} is missing: packages of {} cannot be trusted and are not downloaded; install \
                 the package debian-archive-keyring",
                suites.join(", ")
            );
        }
        let sources = apt_sources::read(Path::new(ETC))?;
        let text = apt_sources::render(&sources, &codename()?, suites, KEYRING)?;
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = dir.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("{} was not made", part.display()))?;
        }
        let list = dir.join("sources.list");
        fs::write(&list, text).with_context(|| format!("{} was not written", list.display()))?;
        let this = Self { options: private_options(dir), dir: Some(dir.to_owned()) };
        this.update();
        Ok(this)
    }

    /// A private one in the directory `dir`, with the machine's own suite and its backports, which packages are
    /// taken from where they have them.
    pub(crate) fn of_backports(dir: &Path) -> Result<Self> {
        let codename = codename()?;
        let backports = format!("{codename}-backports");
        let suites = [codename.clone(), format!("{codename}-security"), backports.clone()];
        let mut this = Self::of_suites(&suites, dir)?;
        this.options.push(format!("APT::Default-Release={backports}"));
        Ok(this)
    }

    /// Runs `install`, an `apt-get install` with its packages, on the machine.
    pub(crate) fn install(&self, install: &mut Command) -> Result<()> {
        let options = self.options.iter().flat_map(|option| ["-o", option]);
        process::run(install.args(options))
    }

    /// Fetches the lists anew. One suite of several may be gone, and another have the package: what
    /// is missing shows when it is asked for.
    pub(crate) fn update(&self) {
        if let Err(error) = process::run(self.with_options(setup::apt_get()).arg("update")) {
            eprintln!("{error:#}; going on with the lists that are there");
        }
    }

    /// The kernel packages that can be downloaded.
    pub(crate) fn kernels(&self) -> Result<Vec<String>> {
        let mut search = self.with_options(Command::new("apt-cache"));
        search.args(["search", "--names-only", "^linux-image-"]);
        let listing = process::capture(&mut search)?;
        let names = listing.lines().filter_map(|line| line.split_once(" - "));
        Ok(names.map(|(name, _)| name.to_owned()).collect())
    }

    /// Downloads a kernel's packages into `dir`.
    pub(crate) fn download(&self, package: &str, dir: &Path) -> Result<()> {
        let mut depends = self.with_options(Command::new("apt-cache"));
        let listing = process::capture(depends.args(["depends", "--important", package]))?;
        let mut download = self.with_options(setup::apt_get());
        download.arg("download").arg(package).args(parts(package, &listing));
        process::run(download.current_dir(dir))
    }

    /// Removes what a private one left: lists are fetched anew each time, and they are big.
    pub(crate) fn clean(self) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        fs::remove_dir_all(&dir).with_context(|| format!("{} was not removed", dir.display()))
    }

    fn with_options(&self, mut command: Command) -> Command {
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }
}

fn private_options(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    let mut options = vec![
        format!("Dir::Etc::SourceList={dir}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={dir}/lists"),
        format!("Dir::Cache={dir}/cache"),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        // A suite that is no longer maintained keeps its last list, whose date has run out. Its
        // signature is checked all the same.
        "Acquire::Check-Valid-Until=false".to_owned(),
    ];
    if geteuid().is_root() {
        options.push("APT::Sandbox::User=root".to_owned());
    }
    options
}

/// Those of a kernel's dependencies that belong to it: Debian 14 has image and modules in packages of
/// their own, all called by the same release.
fn parts<'a>(package: &str, depends: &'a str) -> Vec<&'a str> {
    let Some(release) = package.strip_prefix("linux-image") else { return Vec::new() };
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.filter(|name| name.starts_with("linux-") && name.ends_with(release)).collect()
}

/// What this machine's release is called; empty where it does not say.
fn codename() -> Result<String> {
    let os_release =
        fs::read_to_string(OS_RELEASE).with_context(|| format!("{OS_RELEASE} cannot be read"))?;
    Ok(parse_codename(&os_release).unwrap_or_default().to_owned())
}

/// What an os-release file calls the release: `bookworm`.
fn parse_codename(os_release: &str) -> Option<&str> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_parts_are_the_dependencies_of_its_release() {
        let depends = "linux-image-7.2.13+deb14-cloud-amd64\n  PreDepends: linux-base\n |Depends: dracut\n\
            \x20 Depends: linux-base-7.2.13+deb14-cloud-amd64\n\
            \x20 Depends: linux-modules-7.2.13+deb14-cloud-amd64\n";
        assert_eq!(
            parts("linux-image-7.2.13+deb14-cloud-amd64", depends),
            ["linux-base-7.2.13+deb14-cloud-amd64", "linux-modules-7.2.13+deb14-cloud-amd64"]
        );
        assert!(parts("linux-image-6.1.0-9-cloud-amd64", "  Depends: kmod\n").is_empty());
    }

    #[test]
    fn the_codename_is_read_with_and_without_quotes() {
        assert_eq!(parse_codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(parse_codename("VERSION_CODENAME=\"sid\"\n"), Some("sid"));
        assert_eq!(parse_codename("ID=debian\n"), None);
    }
}
