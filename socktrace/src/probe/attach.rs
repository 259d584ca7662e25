//! Loads the object and attaches what was selected. Thin: a program that the kernel refuses is
//! noted, and the selection is made anew without it.

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, MapData},
};
use socktrace_common::{
    BACKLOG_UNKNOWN, ListenerInfo, Offsets, Params, Signal, Stage, TaskKey, Tier, loads,
};
use thiserror::Error;

use super::{
    Cannot, FOLLOW, Kind, Options, PLAN, Program, Refusal, Requirement, Timing, Verdict,
    into_kernel::attach_programs, misses::is_guarded, params::params, runs::read_runs,
    select_signal, self_test,
};
use crate::{
    event::{Runs, Sighting},
    kernel::{
        BtfError, Facts, KernelBtf, OffsetsError, Preemption, limit_may_refuse, listen_request,
        out_of_sight, resolve_offsets,
    },
    transport::{CountersError, Reader, ReaderError, Transport, read_stages},
};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the eBPF object is built for x86_64: its kprobes read that machine's registers");

/// The committed object, built from `socktrace-ebpf` by `cargo xtask build-ebpf`.
pub(crate) const OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/socktrace.o");

/// Nothing could be attached, or not what was asked for.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No BTF.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// BTF of an unknown kernel.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// The object did not load.
    #[error("the kernel does not take socktrace's maps: {0}{hint}; see `socktrace check`", hint = limit_clause(.0))]
    Load(#[from] aya::EbpfError),
    /// A map of the object is not as expected.
    #[error("cannot set up the map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What went wrong.
        source: aya::maps::MapError,
    },
    /// The event buffer.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The self-test's counters.
    #[error(transparent)]
    Counters(#[from] CountersError),
    /// The thread with the private tracefs.
    #[error("cannot use a private tracefs: {0}; mount it on /sys/kernel/tracing")]
    Tracefs(io::Error),
    /// `--probe-cost`.
    #[error("cannot time the hooks (BPF_ENABLE_STATS): {0}; leave out --probe-cost")]
    Timing(io::Error),
    /// A tier that was asked for, or all of them.
    #[error("{}", refused_sentence(.0))]
    Refused(Vec<Verdict>),
    /// `--tier` needs it, or `record -- CMD` does.
    #[error("cannot attach {program}: {why}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Fact and next step.
        why: String,
    },
}

fn limit_clause(error: &aya::EbpfError) -> String {
    limit_may_refuse(error).map(|limit| format!("; {limit}")).unwrap_or_default()
}

/// The signals that share a refusal, in one sentence each.
fn refused_sentence(verdicts: &[Verdict]) -> String {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for verdict in verdicts {
        let reasons: Vec<String> = verdict
            .refusals
            .iter()
            .map(|Refusal { tier, why }| format!("tier {}: {why}", tier.name()))
            .collect();
        by_reason.entry(reasons.join("; ")).or_default().push(verdict.signal.name());
    }
    let sentences: Vec<String> = by_reason
        .iter()
        .map(|(why, signals)| format!("cannot trace {}: {why}", signals.join(", ")))
        .collect();
    sentences.join("\n")
}

/// What trying the hooks showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// Every hook that is attached fires.
    Passed,
    /// It was not made, for this reason.
    NotMade(String),
}

/// Everything attached and running. Dropping it detaches everything.
pub struct Attached {
    /// Maps, programs and links, all owned by descriptors.
    pub ebpf: Ebpf,
    /// The event buffer, opened before anything was attached.
    pub reader: Reader,
    /// What became of each signal.
    pub verdicts: Vec<Verdict>,
    /// Whether the hooks fire.
    pub self_test: SelfTest,
    /// Where runs of the programs are timed.
    pub timing: Option<Timing>,
    /// What the programs had run before it.
    pub runs_before: Runs,
}

impl Attached {
    /// Whether the kernel skips hooks for as long as a thread is stopped that reads a map: some share their guard with `bpf(2)`.
    pub fn is_skipped_while_reading(&self, preemption: Preemption) -> bool {
        let mut loaded = self.ebpf.programs().filter(|(_, program)| program.fd().is_ok());
        preemption != Preemption::Nobody && loaded.any(|(_, program)| is_guarded(program))
    }
}

/// What did not serve, so far.
#[derive(Default)]
struct Refused {
    /// Programs that the kernel refused.
    programs: BTreeMap<&'static str, String>,
    /// Tiers of signals whose hooks do not fire.
    tiers: BTreeMap<(Signal, Tier), String>,
    /// Whether the kernel refused a program that reads by loads: then all read with a helper.
    loads: bool,
}

/// Asks the kernel what it allows.
pub fn facts(options: &Options) -> Result<Facts, AttachError> {
    let btf = KernelBtf::open(options.btf.as_deref())?;
    let (mut functions, mut tracepoints) = (vec![CURRENT_TASK], Vec::new());
    for program in planned() {
        match program.kind {
            Kind::RawTracepoint => tracepoints.extend_from_slice(program.targets),
            // By its name in tracefs.
            Kind::Tracepoint => {}
            _ => functions.extend_from_slice(program.targets),
        }
    }
    Ok(Facts::read(btf, &functions, &tracepoints))
}

/// Every program that may be chosen.
fn planned() -> impl Iterator<Item = Program> {
    let slots = PLAN.into_iter().flat_map(|(_, tiers)| tiers).flat_map(|tier| tier.slots);
    slots.flat_map(|slot| slot.any_of).copied().chain(FOLLOW)
}

/// Attaches every signal in the best tier that the kernel takes.
pub fn attach(facts: &Facts, options: &Options) -> Result<Attached, AttachError> {
    let offsets = resolve_offsets(&facts.btf, &facts.symbols)?;
    let mut refused = Refused::default();
    let mut log = VerifierLogLevel::DISABLE;
    loop {
        let verdicts = select_all(facts, options, &refused);
        let unserved: Vec<Verdict> =
            verdicts.iter().filter(|verdict| verdict.choice.is_none()).cloned().collect();
        let asked = unserved.iter().any(|verdict| options.tiers.of(verdict.signal).is_some());
        if asked || unserved.len() == verdicts.len() {
            return Err(AttachError::Refused(unserved));
        }
        let loads = if refused.loads { 0 } else { may_load(facts, &verdicts) };
        let params = params(options, &verdicts, facts.preemption, loads);
        let mut ebpf = load(options, &offsets, &params, log)?;
        let reader = Reader::open(&mut ebpf, options.transport, options.buffer_bytes)?;
        fill_filters(&mut ebpf, options)?;
        let programs = in_order(&verdicts, options.filters.follow);
        match attach_programs(&mut ebpf, facts, &programs)? {
            Ok(()) => match try_hooks(&mut ebpf, options, &verdicts, &programs)? {
                Ok(self_test) => {
                    let timing = options.timed.then(Timing::begin).transpose();
                    let timing = timing.map_err(AttachError::Timing)?;
                    let runs_before = read_runs(&ebpf);
                    return Ok(Attached { ebpf, reader, verdicts, self_test, timing, runs_before });
                }
                Err(silent) => {
                    refused.tiers.extend(silent.tiers);
                    refused.programs.extend(silent.programs);
                }
            },
            // Its verifier may know a structure otherwise than the BTF tells.
            Err(_) if !refused.loads => refused.loads = true,
            // Once more, for the verifier's own words, which cost time where all is well.
            Err(_) if log.is_empty() => log = VerifierLogLevel::DEBUG,
            Err((program, why)) if FOLLOW.contains(&program) => {
                return Err(AttachError::Program { program: program.name, why });
            }
            Err((program, why)) => {
                refused.programs.insert(program.name, why);
            }
        }
    }
}

/// The helper that gives the current task with its type.
const CURRENT_TASK: &str = "bpf_get_current_task_btf";

/// What programs may read by loads. Details only in the fentry tier: for each pointer that is followed from the current
/// task, the verifier looks through the names of all structures (since 6.3), which is much of what attaching costs.
fn may_load(facts: &Facts, verdicts: &[Verdict]) -> u32 {
    if facts.btf.function_arity(CURRENT_TASK).is_none() {
        return loads::ARGUMENTS;
    }
    let mut tiers = verdicts.iter().filter_map(|verdict| Some(verdict.choice.as_ref()?.tier));
    let details = if tiers.any(|tier| tier == Tier::Fentry) { loads::DETAILS } else { 0 };
    loads::ARGUMENTS | loads::TASK | details
}

fn select_all(facts: &Facts, options: &Options, refused: &Refused) -> Vec<Verdict> {
    let can = |program: &Program| match refused.programs.get(program.name) {
        Some(why) => Err(Cannot::Refused(why.clone())),
        None => can_attach(facts, program),
    };
    Signal::ALL
        .iter()
        .map(|signal| {
            let fires = |tier| refused.tiers.get(&(*signal, tier)).cloned().map_or(Ok(()), Err);
            select_signal(*signal, options.tiers.of(*signal), facts.preemption, &fires, &can)
        })
        .collect()
}

/// How often the self-test is made before hooks are called silent.
const ATTEMPTS: u32 = 3;

/// What attaches and does not fire, with the reason.
struct Silent {
    tiers: BTreeMap<(Signal, Tier), String>,
    /// Programs that did not run, while the signals that they are for were seen by others.
    programs: BTreeMap<&'static str, String>,
}

/// Makes an incident of each kind and takes its traces out of the maps; `Err` has what saw less than happened, or nothing.
fn try_hooks(
    ebpf: &mut Ebpf,
    options: &Options,
    verdicts: &[Verdict],
    programs: &[Program],
) -> Result<Result<SelfTest, Silent>, AttachError> {
    if !options.self_test {
        return Ok(Ok(SelfTest::NotMade("--no-self-test".into())));
    }
    // Where the kernel does not count runs, what the signals' hooks saw has to do.
    let counted = Timing::begin().ok();
    let mut seen = [0; Signal::COUNT];
    let mut silent = Vec::new();
    let mut idle: Vec<&Program> = Vec::new();
    // A hook may miss an incident by bad luck, a packet be late: silent is what stays so.
    for _ in 0..ATTEMPTS {
        let made = match self_test::make_incidents() {
            Ok(made) => made,
            Err(why) => return Ok(Ok(SelfTest::NotMade(why))),
        };
        forget_own_listeners(ebpf)?;
        let before = seen;
        let stages = read_stages(ebpf)?;
        seen = Signal::ALL.map(|signal| stages.get(signal, Stage::SelfTest));
        let new = std::array::from_fn(|signal| seen[signal] - before[signal]);
        silent = self_test::judge(&made.counts, &new, verdicts);
        if counted.is_some() {
            let runs = read_runs(ebpf).0;
            let ran = |program: &Program| runs.get(program.name).is_none_or(|it| it.count != 0);
            idle = programs.iter().filter(|it| made.tries(it) && !ran(it)).collect();
        }
        if silent.is_empty() && idle.is_empty() {
            return Ok(Ok(SelfTest::Passed));
        }
    }
    let tier_of = |signal: Signal| {
        verdicts.iter().find(|verdict| verdict.signal == signal)?.choice.as_ref().map(|it| it.tier)
    };
    let tiers =
        silent.into_iter().filter_map(|(signal, why)| Some(((signal, tier_of(signal)?), why)));
    let tiers: BTreeMap<_, _> = tiers.collect();
    // What a whole tier does not see says more than which of its hooks do not fire.
    let idle = if tiers.is_empty() { idle } else { Vec::new() };
    let programs = idle.into_iter().map(|program| {
        let target = program.targets.join(", ");
        let why = format!("the hook on {target} attached, but does not fire in the self-test");
        (program.name, why)
    });
    let programs = programs.collect();
    Ok(Err(Silent { tiers, programs }))
}

/// The self-test's listeners are gone, and are nobody's business.
fn forget_own_listeners(ebpf: &mut Ebpf) -> Result<(), AttachError> {
    let map = "LISTENERS";
    let mut listeners = hash_map::<u64, ListenerInfo>(ebpf, map)?;
    let own = |info: &ListenerInfo| info.owner.tgid == std::process::id();
    let entries = listeners.iter().filter_map(Result::ok);
    let gone: Vec<u64> = entries.filter(|(_, info)| own(info)).map(|(inode, _)| inode).collect();
    for inode in gone {
        listeners.remove(&inode).map_err(|source| AttachError::Map { map, source })?;
    }
    Ok(())
}

/// Whether the kernel's facts allow `program`; trying is left to the attach.
fn can_attach(facts: &Facts, program: &Program) -> Result<(), Cannot> {
    match program.kind {
        Kind::Fentry | Kind::Fexit => facts.tracing.clone().map_err(|it| Cannot::Refused(it.0))?,
        Kind::Kprobe | Kind::Kretprobe => {
            facts.kprobes.clone().map_err(|it| Cannot::Refused(it.0))?;
        }
        Kind::Tracepoint => {
            return facts.tracefs.clone().map(|_| ()).map_err(|it| Cannot::Refused(it.0));
        }
        Kind::RawTracepoint => {}
    }
    for target in program.targets {
        let arity = match program.kind {
            Kind::RawTracepoint => facts.btf.tracepoint_arity(target),
            _ => facts.btf.function_arity(target),
        };
        let Some(arity) = arity else {
            let why = format!("this kernel has no {target}, which socktrace would hook");
            return Err(Cannot::Absent(why));
        };
        for requirement in program.requires {
            meets(facts, *requirement, target, arity).map_err(Cannot::Refused)?;
        }
    }
    Ok(())
}

fn meets(
    facts: &Facts,
    requirement: Requirement,
    target: &str,
    arity: usize,
) -> Result<(), String> {
    match requirement {
        Requirement::Parameters(wanted) if arity != wanted => Err(format!(
            "{target} has {arity} parameters on this kernel, a form that socktrace does not know"
        )),
        Requirement::PerCpuOffset => facts
            .symbols
            .per_cpu_offset
            .clone()
            .map(|_| ())
            .map_err(|refused| format!("reading the kernel's counters: {}", refused.0)),
        Requirement::ReceivingSocket => {
            let reason = "SKB_DROP_REASON_TCP_LISTEN_OVERFLOW";
            if facts.btf.enum_value("skb_drop_reason", reason).is_none() || arity < 4 {
                return Err(format!("this kernel's {target} does not tell listener and reason"));
            }
            facts.symbols.tcp_rcv.clone().map(|_| ()).map_err(|refused| refused.0)
        }
        Requirement::ListenRequest => match listen_request(&facts.btf) {
            Some(_) => Ok(()),
            None => Err(format!("this kernel's {target} does not tell backlog and result")),
        },
        Requirement::Parameters(_) => Ok(()),
    }
}

/// Every program once, in the order of the plan.
fn in_order(verdicts: &[Verdict], follow: bool) -> Vec<Program> {
    let mut programs = if follow { FOLLOW.to_vec() } else { Vec::new() };
    for choice in verdicts.iter().filter_map(|verdict| verdict.choice.as_ref()) {
        for program in &choice.programs {
            if !programs.contains(program) {
                programs.push(*program);
            }
        }
    }
    programs
}

fn load(
    options: &Options,
    offsets: &Offsets,
    params: &Params,
    log: VerifierLogLevel,
) -> Result<Ebpf, AttachError> {
    let ring_bytes = match options.transport {
        Transport::Ring => options.buffer_bytes,
        // Not used, and the smallest that the kernel takes.
        Transport::Perf => 4096,
    };
    // It would parse the kernel's BTF, by which nothing in the object is relocated.
    let mut loader = out_of_sight(EbpfLoader::new).unwrap_or_else(|_| EbpfLoader::new());
    if !options.filters.follow {
        // Nobody is followed.
        loader.map_max_entries("FOLLOWED", 1);
    }
    loader
        .verifier_log_level(log)
        .map_max_entries("EVENTS_RING", ring_bytes)
        .override_global("PARAMS", params, true)
        .override_global("OFFSETS", offsets, true);
    Ok(loader.load(OBJECT)?)
}

fn fill_filters(ebpf: &mut Ebpf, options: &Options) -> Result<(), AttachError> {
    let filters = &options.filters;
    let mut pids = hash_map::<u32, u8>(ebpf, "FILTER_PIDS")?;
    for pid in &filters.pids {
        insert(&mut pids, "FILTER_PIDS", pid, 1)?;
    }
    let mut ports = hash_map::<u16, u8>(ebpf, "FILTER_PORTS")?;
    for port in &filters.ports {
        insert(&mut ports, "FILTER_PORTS", port, 1)?;
    }
    Ok(())
}

/// Marks a listener as one whose owner the filters select.
pub(crate) fn select_listener(
    ebpf: &mut Ebpf,
    inode: u64,
    sighting: &Sighting,
) -> Result<(), AttachError> {
    let mut listeners = hash_map::<u64, ListenerInfo>(ebpf, "LISTENERS")?;
    let mut info = listeners.get(&inode, 0).unwrap_or_else(|_| ListenerInfo {
        local: (&sighting.local).into(),
        owner: TaskKey::NONE,
        acceptor: TaskKey::NONE,
        drops_at_close: u64::MAX,
        accepted: 0,
        accepted_ns: 0,
        netns: sighting.netns.unwrap_or(0),
        requested: BACKLOG_UNKNOWN,
        effective: sighting.effective.unwrap_or(0),
        selected: 0,
        from_child: 0,
        pad: 0,
    });
    info.selected = 1;
    insert(&mut listeners, "LISTENERS", &inode, info)
}

/// A hash map of the object, for writing.
pub(crate) fn hash_map<'a, K: aya::Pod, V: aya::Pod>(
    ebpf: &'a mut Ebpf,
    map: &'static str,
) -> Result<HashMap<&'a mut MapData, K, V>, AttachError> {
    let missing = aya::maps::MapError::InvalidMapType { map_type: 0 };
    let found = ebpf.map_mut(map).ok_or(AttachError::Map { map, source: missing })?;
    HashMap::try_from(found).map_err(|source| AttachError::Map { map, source })
}

/// Writes one entry.
pub(crate) fn insert<K: aya::Pod, V: aya::Pod>(
    into: &mut HashMap<&mut MapData, K, V>,
    map: &'static str,
    key: &K,
    value: V,
) -> Result<(), AttachError> {
    into.insert(key, value, 0).map_err(|source| AttachError::Map { map, source })
}
