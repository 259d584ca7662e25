//! `diagnose`: why a target refuses, stalls or drops, step by step, without eBPF.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::{OsStrExt, OsStringExt},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    args::parse_duration,
    failure::{Failure, SUCCESS},
    output::{self, print},
    record,
};
use crate::{
    diagnose::{Check, checkup},
    event::{Address, glob_of},
    evidence::{Investigator, Namespaces, Someone, check_process},
    host::Host,
    kernel::has_lsm_programs,
    render::{
        checkup::{checkup_json, render_checkup},
        escape::{escape, unix_name},
        json, text,
    },
};

/// Something was found.
const FOUND: u8 = 1;

/// Say why a target refuses, stalls or drops connections: a Unix path, [ADDR]:PORT, or a PID
///
/// Takes the steps that an operator takes, each with its facts, and ends with 0 if nothing is wrong, with 1 if
/// something is. Needs no eBPF (but for --trace). Without root it sees less, and says what.
#[derive(Debug, Args)]
pub(super) struct Diagnose {
    /// A path (with a slash), an abstract name (@NAME), ADDR:PORT, [ADDR]:PORT, :PORT, or a pid
    target: OsString,
    /// As the client that this process is: its rights, its root, its namespaces
    #[arg(long, value_name = "PID", conflicts_with = "as_user")]
    as_pid: Option<u32>,
    /// As a client of this user, by name or uid, with all the groups that it is in
    #[arg(long, value_name = "USER")]
    as_user: Option<String>,
    /// Record for this long, too, what happens to the target (root)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    trace: Option<Duration>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Address(Address),
    Process(u32),
}

impl Diagnose {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let target = parse_target(self.target.as_bytes()).map_err(Failure::Usage)?;
        let host = Host::default();
        let someone = self.someone(&host)?;
        let checks = match &target {
            Target::Address(address) => {
                let namespaces = Namespaces::open(host.clone());
                let has_programs = has_lsm_programs().ok();
                checkup(&Investigator::new(host, namespaces, has_programs).ask(address, &someone))
            }
            Target::Process(pid) => {
                if host.read_exists(*pid).is_ok_and(|exists| !exists) {
                    return Err(Failure::Usage(format!("there is no process {pid}")));
                }
                check_process(&host, &mut Namespaces::open(host.clone()), *pid)?
            }
        };
        let traced = self.trace.map(|duration| record::on_target(duration, &filters(&target)));
        let traced = traced.transpose()?;
        let name = shown(&target);
        let found = checks.iter().any(Check::is_bad)
            || traced.as_ref().is_some_and(|snapshot| !snapshot.findings.is_empty());
        let told = if self.json {
            let trace = traced.as_ref().map(json::render_report);
            format!("{:#}\n", checkup_json(&name, &checks, trace.as_ref()))
        } else {
            let trace = traced.as_ref().map(|snapshot| {
                let report = text::render_report(snapshot, Some(output::cost()));
                format!("\nWHILE IT WAS TRACED\n{report}")
            });
            render_checkup(&name, &checks) + trace.as_deref().unwrap_or_default()
        };
        print(std::io::stdout(), "stdout", &told)?;
        Ok(if found { ExitCode::from(FOUND) } else { SUCCESS })
    }

    /// Who is to be imagined as the client.
    fn someone(&self, host: &Host) -> Result<Someone, Failure> {
        if let Some(pid) = self.as_pid {
            return match host.read_exists(pid) {
                Ok(true) => Ok(Someone::Process(pid)),
                _ => Err(Failure::Usage(format!("there is no process {pid} (--as-pid)"))),
            };
        }
        let Some(user) = &self.as_user else { return Ok(Someone::Myself) };
        let accounts = host.read_accounts()?;
        let known = accounts.user(user.as_bytes());
        if let Some(known) = known {
            let groups = accounts.groups_of(known);
            return Ok(Someone::User { uid: known.uid, gid: known.gid, groups });
        }
        // A uid without an account has no groups but its own number's.
        user.parse().map(|uid| Someone::User { uid, gid: uid, groups: Vec::new() }).map_err(|_| {
            Failure::Usage(format!(
                "there is no user {} in /etc/passwd (--as-user); give its uid if it is kept elsewhere",
                escape(user.as_bytes())
            ))
        })
    }
}

/// The arguments of `record` that select the target.
fn filters(target: &Target) -> Vec<OsString> {
    match target {
        Target::Process(pid) => vec!["-p".into(), pid.to_string().into()],
        Target::Address(Address::Inet(at)) => vec!["-P".into(), at.port().to_string().into()],
        Target::Address(Address::Unix(name)) => {
            vec!["--path".into(), OsString::from_vec(glob_of(name))]
        }
    }
}

fn shown(target: &Target) -> String {
    match target {
        Target::Process(pid) => pid.to_string(),
        Target::Address(Address::Inet(at)) => at.to_string(),
        Target::Address(Address::Unix(name)) => unix_name(name).into_owned(),
    }
}

/// A target by its form.
fn parse_target(bytes: &[u8]) -> Result<Target, String> {
    if bytes.is_empty() {
        return Err("an empty target; give a path, ADDR:PORT or a pid".to_owned());
    }
    if let Some(name) = bytes.strip_prefix(b"@") {
        return Ok(Target::Address(Address::Unix([b"\0", name].concat())));
    }
    if bytes.contains(&b'/') {
        return Ok(Target::Address(Address::Unix(bytes.to_vec())));
    }
    let text = str::from_utf8(bytes).unwrap_or_default();
    if let Ok(pid) = text.parse::<u32>() {
        return Ok(Target::Process(pid));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::Address(Address::Inet(address)));
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
    if let Some(port) = port.and_then(|port| port.parse().ok()) {
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        return Ok(Target::Address(Address::Inet(at)));
    }
    Err(format!(
        "{}: not a target; give a path (with a slash, ./NAME for one in this directory), an abstract name \
         (@NAME), ADDR:PORT ([ADDR]:PORT for IPv6, :PORT for this host), or a pid",
        escape(bytes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(name: &[u8]) -> Target {
        Target::Address(Address::Unix(name.to_vec()))
    }

    #[test]
    fn a_target_is_known_by_its_form() {
        let parse = |text: &str| parse_target(text.as_bytes()).expect("a target");
        assert_eq!(parse("/run/app.sock"), unix(b"/run/app.sock"));
        assert_eq!(parse("./app.sock"), unix(b"./app.sock"));
        assert_eq!(parse("@app"), unix(b"\0app"));
        assert_eq!(parse("123"), Target::Process(123));
        let inet = |text: &str| Target::Address(Address::Inet(text.parse().expect("an address")));
        assert_eq!(parse("10.0.0.1:80"), inet("10.0.0.1:80"));
        assert_eq!(parse("[::1]:80"), inet("[::1]:80"));
        assert_eq!(parse(":80"), inet("127.0.0.1:80"));
        assert_eq!(parse("localhost:80"), inet("127.0.0.1:80"));
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_forms_that_are() {
        for bad in ["", "app", "10.0.0.1", "10.0.0.1:x", "::1:80:", "-5", "99999999999", "\u{1b}x"]
        {
            let why = parse_target(bad.as_bytes()).expect_err(bad);
            assert!(why.contains("pid") && !why.contains('\u{1b}'), "{why}");
        }
    }

    #[test]
    fn a_path_with_the_signs_of_globs_is_matched_as_it_is() {
        let [_, glob] = filters(&unix(b"/run/[a]*.sock")).try_into().expect("two arguments");
        assert_eq!(glob, OsString::from("/run/\\[a\\]\\*.sock"));
    }
}
