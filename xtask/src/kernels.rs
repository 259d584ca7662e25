//! The kernels to test on: `tests/kernels.toml`, and the Debian packages that it names.
//!
//! A kernel that is in the cache is used as it is, so that tests run offline; an empty cache takes
//! the newest package that the archive has. How the archive is asked is in `apt.rs`.

use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;
use regex_lite::Regex;
use serde::Deserialize;

use crate::apt::Apt;
use crate::{paths, process};

/// On the kernel's command line.
pub(crate) const PREEMPT_FULL: &str = "preempt=full";

/// The name of the entry that is this machine.
const HOST: &str = "host";

/// One entry of `tests/kernels.toml`, as far as booting it goes; the tests read the rest.
#[derive(Deserialize, Clone, Debug)]
pub(crate) struct Kernel {
    /// What reports and `--kernel` call it.
    pub(crate) name: String,
    /// The package's name as a regular expression; absent for the host.
    package: Option<String>,
    /// The Debian suites that have it; none where the machine's own sources do.
    #[serde(default)]
    suite: Vec<String>,
    /// Whether a package that cannot be had is a failure.
    pub(crate) required: bool,
    /// Whether it preempts its own code.
    #[serde(default)]
    pub(crate) preempts: bool,
    /// Whether it can be told to preempt its own code everywhere, by [`PREEMPT_FULL`].
    #[serde(default)]
    pub(crate) takes_preempt_full: bool,
    /// Tests, by the beginning of their names, that a representative part leaves out here.
    #[serde(default)]
    pub(crate) full_only: Vec<String>,
}

#[derive(Deserialize)]
struct Table {
    kernel: Vec<Kernel>,
}

/// An unpacked kernel package.
pub(crate) struct Unpacked {
    /// The package's name, which says the exact version.
    pub(crate) package: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>`, with `modules.dep`.
    pub(crate) modules: PathBuf,
}

/// The path of the kernel table in the workspace at `root`.
pub(crate) fn table(root: &Path) -> PathBuf {
    root.join("tests/kernels.toml")
}

/// The kernels that boot in QEMU, or the one called `only`.
pub(crate) fn bootable(root: &Path, only: Option<&str>) -> Result<Vec<Kernel>> {
    select(read(root)?, only)
}

/// The names of the kernels that boot in QEMU, in the table's order.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    Ok(bootable(root, None)?.into_iter().map(|kernel| kernel.name).collect())
}

fn read(root: &Path) -> Result<Vec<Kernel>> {
    let path = table(root);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let table: Table =
        toml::from_str(&text).with_context(|| format!("{} is no kernel table", path.display()))?;
    Ok(table.kernel)
}

fn select(kernels: Vec<Kernel>, only: Option<&str>) -> Result<Vec<Kernel>> {
    let bootable: Vec<_> = kernels.into_iter().filter(|kernel| kernel.name != HOST).collect();
    let Some(only) = only else { return Ok(bootable) };
    let names: Vec<_> = bootable.iter().map(|kernel| kernel.name.clone()).collect();
    let chosen: Vec<_> = bootable.into_iter().filter(|kernel| kernel.name == only).collect();
    if chosen.is_empty() {
        bail!("no kernel to boot is called {only:?}: nothing was tested; choose of {names:?}");
    }
    Ok(chosen)
}

impl Kernel {
    /// The unpacked package: from the cache, else downloaded.
    pub(crate) fn obtain(&self) -> Result<Unpacked> {
        let pattern = self.pattern()?;
        let cache = paths::cache()?.join("kernels");
        fs::create_dir_all(&cache).with_context(|| format!("{} was not made", cache.display()))?;
        let package = match newest(&pattern, &cached_packages(&cache)?) {
            Some(package) => package,
            None => self.download(&pattern, &cache)?,
        };
        open(&cache.join(&package), package)
    }

    fn pattern(&self) -> Result<Regex> {
        let package = self.package.as_deref().with_context(|| {
            format!("kernel {} names no package: it cannot be booted; add `package = …`", self.name)
        })?;
        Regex::new(&format!("^(?:{package})$"))
            .with_context(|| format!("kernel {}: `package` is no regular expression", self.name))
    }

    fn download(&self, pattern: &Regex, cache: &Path) -> Result<String> {
        let apt = self.apt(pattern)?;
        let package = newest(pattern, &apt.kernels()?).with_context(|| {
            format!(
                "the package archive has nothing like {pattern}: kernel {} cannot be booted; \
                 run `apt-get update`, or see `apt-cache pkgnames linux-image-` in {}",
                self.name,
                self.suites()
            )
        })?;
        eprintln!("kernel {}: downloading {package} from {}", self.name, self.suites());
        unpack(&apt, &package, cache)?;
        apt.clean()?;
        Ok(package)
    }

    /// Whom to ask, with lists that have the package if the archive has it.
    fn apt(&self, pattern: &Regex) -> Result<Apt> {
        if !self.suite.is_empty() {
            let dir = paths::cache()?.join(format!("apt-{}", self.name));
            return Apt::of_suites(&self.suite, &dir);
        }
        let apt = Apt::of_machine();
        if newest(pattern, &apt.kernels()?).is_none() && geteuid().is_root() {
            apt.update();
        }
        Ok(apt)
    }

    fn suites(&self) -> String {
        if self.suite.is_empty() {
            return "the machine's own suites".to_owned();
        }
        self.suite.join(", ")
    }
}

/// The names below the cache; half-unpacked ones have a suffix that no pattern matches.
fn cached_packages(cache: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(cache).with_context(|| format!("{} cannot be read", cache.display()))?;
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let dirs = entries.into_iter().filter(|entry| entry.path().is_dir());
    Ok(dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn newest(pattern: &Regex, packages: &[String]) -> Option<String> {
    let matching = packages.iter().filter(|package| pattern.is_match(package));
    matching.max_by(|left, right| compare_versions(left, right)).cloned()
}

/// Compares names with runs of digits as numbers: `6.1.0-9` comes before `6.1.0-10`.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        let runs = name.split(|c: char| !c.is_ascii_digit());
        runs.filter_map(|run| run.parse().ok()).collect()
    };
    numbers(left).cmp(&numbers(right)).then_with(|| left.cmp(right))
}

/// Downloads `package` and unpacks it to a directory of its name; that name appears only when all is there.
fn unpack(apt: &Apt, package: &str, cache: &Path) -> Result<()> {
    let partial = cache.join(format!("{package}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("{} was not removed", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("{} was not made", partial.display()))?;
    apt.download(package, &partial)?;
    for archive in archives(&partial)? {
        process::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?;
        fs::remove_file(&archive).with_context(|| format!("{} stays", archive.display()))?;
    }
    // Debian 13 and later have all below /usr; depmod looks in one place.
    if !partial.join("lib").exists() {
        symlink("usr/lib", partial.join("lib"))
            .with_context(|| format!("{}/lib was not made", partial.display()))?;
    }
    let release = release_of(&partial)?;
    process::run(Command::new("depmod").arg("-b").arg(&partial).arg(release))?;
    fs::rename(&partial, cache.join(package))
        .with_context(|| format!("{} was not renamed", partial.display()))
}

fn archives(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

fn open(dir: &Path, package: String) -> Result<Unpacked> {
    let modules = dir.join("lib/modules").join(release_of(dir)?);
    // Debian 14 keeps the image with the modules and copies it to /boot at installation.
    let beside = modules.join("vmlinuz");
    let image = if beside.is_file() {
        beside
    } else {
        find_one(&dir.join("boot"), |name| name.starts_with("vmlinuz-"))?
    };
    Ok(Unpacked { package, image, modules })
}

fn release_of(dir: &Path) -> Result<String> {
    let modules = find_one(&dir.join("lib/modules"), |_| true)?;
    let name = modules.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).context("a kernel release's name is no UTF-8")
}

/// The one entry of `dir` whose name is `wanted`.
fn find_one(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| {
        format!(
            "{} is missing: the kernel is not unpacked whole; remove it from the cache",
            dir.display()
        )
    })?;
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let found = entries.into_iter().find(|entry| entry.file_name().to_str().is_some_and(&wanted));
    found.map(|entry| entry.path()).with_context(|| {
        format!(
            "{} lacks what a kernel package has; remove its package from the cache, and it is downloaded anew",
            dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str) -> Kernel {
        Kernel {
            name: name.to_owned(),
            package: None,
            suite: Vec::new(),
            required: true,
            preempts: false,
            takes_preempt_full: false,
            full_only: Vec::new(),
        }
    }

    #[test]
    fn the_newest_match_is_taken_by_number() -> Result<()> {
        let pattern = Regex::new(r"^linux-image-6\.1\.0-\d+-cloud-amd64$")?;
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
            "linux-image-6.12.1+deb12-cloud-amd64",
            "linux-image-6.1.0-11-cloud-amd64.partial",
        ];
        let found = newest(&pattern, &packages.map(str::to_owned));
        assert_eq!(found.as_deref(), Some("linux-image-6.1.0-10-cloud-amd64"));
        Ok(())
    }

    #[test]
    fn the_host_is_never_booted() -> Result<()> {
        let chosen = select(vec![kernel("host"), kernel("6.1")], None)?;
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].name, "6.1");
        Ok(())
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_the_choice() {
        let error = select(vec![kernel("6.1")], Some("7.0")).expect_err("there is no 7.0");
        assert!(error.to_string().contains(r#"["6.1"]"#), "{error}");
    }
}
