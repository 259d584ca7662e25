//! Kernel modules for a VM: which ones, in what order, and their bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// What the tests need beyond the image: `sock_diag`, by which they count what the kernel has.
const WANTED: &[&str] = &["fuse", "inet_diag", "tcp_diag", "tun", "unix_diag"];

/// A module, uncompressed.
pub(crate) struct Module {
    /// Its name, as the kernel says it.
    pub(crate) name: String,
    /// The ELF file for `finit_module`.
    pub(crate) content: Vec<u8>,
}

/// The wanted modules of the kernel whose `lib/modules/<release>` is `dir`, in loading order.
pub(crate) fn load(dir: &Path) -> Result<Vec<Module>> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).with_context(|| {
            format!("{} cannot be read; remove the kernel from the cache", path.display())
        })
    };
    let (dep, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let order = resolve(&dep, &builtin, WANTED)?;
    order.iter().map(|path| read_module(&dir.join(path), path)).collect()
}

fn read_module(file: &Path, path: &str) -> Result<Module> {
    let content = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => process::capture_bytes(Command::new("xz").arg("-dc").arg(file))?,
        Some("zst") => process::capture_bytes(Command::new("zstd").arg("-dc").arg(file))?,
        _ => fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?,
    };
    Ok(Module { name: module_name(path).to_owned(), content })
}

/// The paths to load, dependencies first; what the image has built in is left out.
fn resolve<'a>(dep: &'a str, builtin: &str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let rows = dep.lines().filter_map(|line| line.split_once(':'));
    let by_name: BTreeMap<_, _> =
        rows.map(|(path, needs)| (module_name(path), (path, needs))).collect();
    let mut order = Vec::new();
    for name in wanted {
        if builtin.lines().any(|path| module_name(path) == *name) {
            continue;
        }
        let (path, needs) = by_name.get(name).with_context(|| {
            format!(
                "this kernel has no module {name}: the tests cannot ask it; use another package"
            )
        })?;
        // depmod lists the transitive needs, the ones to load first at the end.
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// `kernel/net/unix/unix_diag.ko.xz` is called `unix_diag`.
fn module_name(path: &str) -> &str {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split_once(".ko").map_or(file, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/net/unix/unix_diag.ko.xz:\n\
        kernel/net/ipv4/tcp_diag.ko.xz: kernel/net/ipv4/inet_diag.ko.xz kernel/base.ko\n\
        kernel/net/ipv4/inet_diag.ko.xz: kernel/base.ko\n\
        kernel/base.ko:\n";

    #[test]
    fn dependencies_are_loaded_first_and_once() -> Result<()> {
        let order = resolve(DEP, "", &["inet_diag", "tcp_diag"])?;
        let expected =
            ["kernel/base.ko", "kernel/net/ipv4/inet_diag.ko.xz", "kernel/net/ipv4/tcp_diag.ko.xz"];
        assert_eq!(order, expected);
        Ok(())
    }

    #[test]
    fn a_built_in_module_is_not_loaded() -> Result<()> {
        assert!(resolve("", "kernel/net/unix/unix_diag.ko\n", &["unix_diag"])?.is_empty());
        Ok(())
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error() {
        assert!(resolve(DEP, "", &["smc_diag"]).is_err());
    }
}
