//! `cargo xtask bench`: what tracing costs, in guests that count instructions and on this machine.
//!
//! The program `bench` of the tests crate measures; here is what it is told to, and what becomes of
//! what it says.

pub(crate) mod gate;
mod guest;
mod host;
pub(crate) mod peers;
mod plan;
mod samples;
mod table;
mod user;

use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use self::table::Unit;
use crate::libtest::Totals;
use crate::programs::Programs;
use crate::{kernels, paths, setup};

/// The kernels whose figures are told.
const KERNELS: &[&str] = &["6.1", "6.12"];

/// `cargo xtask bench`'s arguments.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure.
    #[arg(default_value = "all")]
    part: Part,
    /// Only tracers whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only this kernel of tests/kernels.toml.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Tell which eBPF programs ran, how often, and what each costs.
    #[arg(long)]
    programs: bool,
    /// On this machine: how often each tracer is started.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pairs: u32,
    /// On this machine: socktrace's tiers.
    #[arg(long, value_name = "TIER", value_delimiter = ',', default_value = "tracepoint")]
    tiers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Instructions, in QEMU.
    Vm,
    /// CPU time, on this machine (root).
    Host,
    /// Only what CI holds to its limits.
    Gate,
    /// The tracer itself and its user space, on this machine (root).
    User,
    /// Vm, host and user.
    All,
}

/// Measures, and prints Markdown tables.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments { bench: arguments.part != Part::Gate })?;
    let root = paths::workspace()?;
    if arguments.part == Part::Gate {
        let Totals { failed, .. } = gate::run(&root, &Programs::build(&root)?)?.totals;
        if failed > 0 {
            bail!("{failed} operations cost more than recorded; see above");
        }
        return Ok(());
    }
    let mut tables = Vec::new();
    if matches!(arguments.part, Part::Vm | Part::All) {
        tables.extend(vms(&root, arguments)?);
    }
    if matches!(arguments.part, Part::Host | Part::All) {
        let only = arguments.only.as_deref();
        let samples =
            host::everything(&root, arguments.pairs, &arguments.tiers, only, arguments.programs)?;
        let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
        tables.push(table::render(
            &format!("This machine, kernel {release}"),
            &samples,
            Unit::Nanoseconds,
        ));
    }
    if matches!(arguments.part, Part::User | Part::All) {
        tables.push(user::everything(&root)?);
    }
    println!("\n{}", tables.join("\n"));
    Ok(())
}

fn vms(root: &Path, arguments: &Arguments) -> Result<Vec<String>> {
    // Ratios are to what an optimized program does untraced.
    let (_, bench) = host::build(root)?;
    let programs = Programs { bench: bench.into(), ..Programs::build(root)? };
    let kernels = match arguments.kernel.as_deref() {
        Some(one) => vec![one],
        None => KERNELS.to_vec(),
    };
    let mut tables = Vec::new();
    for name in kernels {
        for kernel in kernels::bootable(root, Some(name))? {
            let only = arguments.only.as_deref();
            let samples = guest::everything(root, &kernel, &programs, only, arguments.programs)?;
            let title = format!("Instructions, kernel {name}");
            tables.push(table::render(&title, &samples, Unit::Instructions));
        }
    }
    Ok(tables)
}
