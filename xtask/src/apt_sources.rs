//! The machine's own apt sources: at which address which archive is.
//!
//! That is how a suite that the machine does not use is found without an address in this repository:
//! where its own suite is, the archive's other suites are, too. Knows both formats of apt
//! (`sources.list(5)`), and none of what apt does with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The suites that stand for a Debian release besides its codename.
const ALIASES: &[&str] = &["oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"];

/// The component that has the kernels, and that archives beside Debian's seldom call theirs.
const COMPONENT: &str = "main";

/// One archive that the machine uses: an address, and what is taken from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// Every source below `etc` (`/etc/apt`); files that are not there name none.
pub(crate) fn read(etc: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in files(etc)? {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let deb822 = file.extension().is_some_and(|extension| extension == "sources");
        sources.extend(if deb822 { parse_stanzas(&text) } else { parse_lines(&text) });
    }
    Ok(sources)
}

fn files(etc: &Path) -> Result<Vec<PathBuf>> {
    let parts = etc.join("sources.list.d");
    let mut files = vec![etc.join("sources.list")];
    if parts.is_dir() {
        let entries =
            fs::read_dir(&parts).with_context(|| format!("{} cannot be read", parts.display()))?;
        for entry in entries {
            files.push(entry?.path());
        }
    }
    let known = |file: &PathBuf| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        file.is_file() && matches!(extension, Some("list" | "sources"))
    };
    files.retain(known);
    files.sort();
    Ok(files)
}

/// The lines of a private `sources.list` for `suites`, each trusted by `keyring` alone.
///
/// Security updates have an archive of their own, so a security suite is looked for where the
/// machine's security suite is, and any other where its release is.
pub(crate) fn render(
    sources: &[Source],
    codename: &str,
    suites: &[String],
    keyring: &str,
) -> Result<String> {
    let mut lines = Vec::new();
    for suite in suites {
        let archives = archives(sources, codename, is_security(suite));
        if archives.is_empty() {
            bail!(
                "the machine's apt sources name no Debian archive that could have {suite}: its kernel \
                 cannot be downloaded; add Debian's own suite `{codename}` to /etc/apt/sources.list"
            );
        }
        let line = |uri| format!("deb [signed-by={keyring}] {uri} {suite} {COMPONENT}\n");
        lines.extend(archives.into_iter().map(line));
    }
    Ok(lines.concat())
}

/// The addresses from which the machine takes its own release, or its security updates.
fn archives<'a>(sources: &'a [Source], codename: &str, security: bool) -> Vec<&'a str> {
    let own = |suite: &String| {
        let release = suite.split(['-', '/']).next().unwrap_or_default();
        let plain = release == codename || ALIASES.contains(&release);
        plain && if security { is_security(suite) } else { release == suite }
    };
    let fitting = sources.iter().filter(|source| {
        source.suites.iter().any(own) && source.components.iter().any(|name| name == COMPONENT)
    });
    let mut uris: Vec<_> = fitting.map(|source| source.uri.as_str()).collect();
    uris.sort_unstable();
    uris.dedup();
    uris
}

/// `bookworm-security`; until Debian 10, `buster/updates`.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// The one-line format: `deb [options] uri suite component...`.
fn parse_lines(text: &str) -> Vec<Source> {
    let lines = text.lines().filter_map(|line| {
        let line = line.split('#').next()?.trim().strip_prefix("deb")?;
        let line = line.strip_prefix([' ', '\t'])?.trim_start();
        let words = match line.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => line,
        };
        let mut words = words.split_whitespace().map(str::to_owned);
        Some(Source {
            uri: words.next()?,
            suites: vec![words.next()?],
            components: words.collect(),
        })
    });
    lines.collect()
}

/// The deb822 format: stanzas of fields, apart by empty lines.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = kept.split(|line| line.trim().is_empty());
    stanzas.flat_map(parse_stanza).collect()
}

/// One source per address; none where the stanza is switched off or has source packages only.
fn parse_stanza(lines: &[&str]) -> Vec<Source> {
    let field = |wanted: &str| -> Vec<String> {
        let mut words = Vec::new();
        let mut inside = false;
        for line in lines {
            let mut value = *line;
            // A line that begins with a space continues the field above it.
            if !line.starts_with([' ', '\t']) {
                let (name, rest) = line.split_once(':').unwrap_or((line, ""));
                inside = name.trim().eq_ignore_ascii_case(wanted);
                value = rest;
            }
            if inside {
                words.extend(value.split_whitespace().map(str::to_owned));
            }
        }
        words
    };
    let off = field("Enabled").first().is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if off || !field("Types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let (suites, components) = (field("Suites"), field("Components"));
    let source = |uri| Source { uri, suites: suites.clone(), components: components.clone() };
    field("URIs").into_iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "# deb http://old.test/debian bookworm main\n\
        deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # ours\n\
        deb-src http://mirror.test/debian bookworm main\n\
        deb http://security.test/debian-security bookworm-security main\n\
        deb http://vendor.test/apt bookworm-vendor main\n\
        deb http://other.test/linux bookworm stable\n";

    const STANZAS: &str = "Types: deb deb-src\n\
        # http://snapshot.test/\n\
        URIs: http://mirror.test/debian\n\
        Suites: bookworm\n bookworm-updates\n\
        Components: main\n\
        \n\
        Enabled: no\n\
        Types: deb\n\
        URIs: http://off.test/debian\n\
        Suites: bookworm\n\
        Components: main\n\
        \n\
        Types: deb\n\
        URIs: http://security.test/debian-security\n\
        Suites: bookworm-security\n\
        Components: main\n";

    fn rendered(text: &str, parse: fn(&str) -> Vec<Source>, suite: &str) -> Result<String> {
        render(&parse(text), "bookworm", &[suite.to_owned()], "/k.gpg")
    }

    #[test]
    fn a_suite_is_looked_for_where_the_machines_own_release_is() -> Result<()> {
        let expected = "deb [signed-by=/k.gpg] http://mirror.test/debian sid main\n";
        assert_eq!(rendered(LINES, parse_lines, "sid")?, expected);
        assert_eq!(rendered(STANZAS, parse_stanzas, "sid")?, expected);
        Ok(())
    }

    #[test]
    fn a_security_suite_is_looked_for_where_the_machines_own_is() -> Result<()> {
        let expected =
            "deb [signed-by=/k.gpg] http://security.test/debian-security bullseye-security main\n";
        assert_eq!(rendered(LINES, parse_lines, "bullseye-security")?, expected);
        assert_eq!(rendered(STANZAS, parse_stanzas, "bullseye-security")?, expected);
        Ok(())
    }

    #[test]
    fn a_release_by_its_alias_is_the_machines_own() -> Result<()> {
        let text = "deb http://mirror.test/debian stable main\n";
        assert!(rendered(text, parse_lines, "sid")?.contains("mirror.test"));
        Ok(())
    }

    #[test]
    fn where_no_debian_archive_is_named_the_error_says_what_to_add() {
        let text = "deb http://vendor.test/apt bookworm-vendor main\n";
        let error = rendered(text, parse_lines, "sid").expect_err("no archive").to_string();
        assert!(error.contains("sid") && error.contains("`bookworm`"), "{error}");
    }

    #[test]
    fn files_of_both_formats_are_read_and_others_are_not() -> Result<()> {
        let etc = std::env::temp_dir().join(format!("apt-sources-{}", std::process::id()));
        let parts = etc.join("sources.list.d");
        fs::create_dir_all(&parts)?;
        fs::write(parts.join("debian.sources"), STANZAS)?;
        fs::write(parts.join("more.list"), LINES)?;
        fs::write(parts.join("more.list.bak"), LINES)?;
        let found = read(&etc);
        fs::remove_dir_all(&etc)?;
        assert_eq!(found?.len(), 2 + 4);
        Ok(())
    }
}
