//! Picks a tier for a signal: pure, keeping every refusal.

use std::collections::BTreeMap;

use socktrace_common::{Signal, Tier};

use super::plan::{Kind, PLAN, Program, Slot, TierPlan, Without};
use crate::kernel::Preemption;

/// Why a program does not attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cannot {
    /// The kernel has nothing of that name.
    Absent(String),
    /// For another reason.
    Refused(String),
}

impl Cannot {
    fn why(self) -> String {
        match self {
            Self::Absent(why) | Self::Refused(why) => why,
        }
    }
}

/// Why a tier was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The tier.
    pub tier: Tier,
    /// Fact and next step.
    pub why: String,
}

/// The tier that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The tier.
    pub tier: Tier,
    /// Its programs, in the order in which they attach.
    pub programs: Vec<Program>,
    /// What it does not see, here.
    pub loses: Vec<String>,
    /// What nobody sees if the kernel skips all of these programs.
    pub alone: BTreeMap<&'static str, Vec<&'static str>>,
}

/// What became of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The signal.
    pub signal: Signal,
    /// The tier that serves it; `None` if none does.
    pub choice: Option<Choice>,
    /// The better tiers that were asked for and refused.
    pub refusals: Vec<Refusal>,
}

/// Takes the first tier of `signal`, among those `asked` for, that is not known to be silent
/// (`fires`), and whose every needed slot has a program that `can` attach. Slots that are of no use under this
/// `preemption` are left out.
pub fn select_signal(
    signal: Signal,
    asked: Option<Tier>,
    preemption: Preemption,
    fires: &dyn Fn(Tier) -> Result<(), String>,
    can: &dyn Fn(&Program) -> Result<(), Cannot>,
) -> Verdict {
    let mut refusals = Vec::new();
    for plan in &PLAN[signal as usize].1 {
        if asked.is_some_and(|tier| tier != plan.tier) {
            continue;
        }
        match fires(plan.tier).and_then(|()| select_tier(plan, preemption, can)) {
            Ok(choice) => return Verdict { signal, choice: Some(choice), refusals },
            Err(why) => refusals.push(Refusal { tier: plan.tier, why }),
        }
    }
    Verdict { signal, choice: None, refusals }
}

fn select_tier(
    plan: &TierPlan,
    preemption: Preemption,
    can: &dyn Fn(&Program) -> Result<(), Cannot>,
) -> Result<Choice, String> {
    let mut programs = Vec::new();
    let mut alone: BTreeMap<_, Vec<Program>> = BTreeMap::new();
    let mut loses: Vec<String> = plan.loses.iter().map(|lost| (*lost).to_owned()).collect();
    for slot in plan.slots.iter().filter(|slot| slot.only.applies(preemption)) {
        let selected = select_program(slot, can);
        if let (Ok(program), Some(what)) = (&selected, slot.alone) {
            alone.entry(what).or_default().push(**program);
        }
        match (selected, slot.without) {
            (Ok(program), _) if programs.contains(program) => {}
            (Ok(program), _) => programs.push(*program),
            (Err(cannot), Without::Refuse) => return Err(cannot.why()),
            (Err(Cannot::Absent(_)), Without::LoseWhereThere(_)) => {}
            (Err(cannot), Without::Lose(lost) | Without::LoseWhereThere(lost)) => {
                loses.push(format!("{lost} [{}]", cannot.why()));
            }
        }
    }
    alone.retain(|_, group| !one_always_runs(group, preemption));
    let names = |group: Vec<Program>| group.iter().map(|program| program.name).collect();
    let alone = alone.into_iter().map(|(what, group)| (what, names(group))).collect();
    Ok(Choice { tier: plan.tier, programs, loses, alone })
}

/// Whether of these twins one runs, whatever the kernel skips. A program with a guard of its own is skipped where it
/// was interrupted. Where nobody is stopped inside it, only a softirq interrupts it, which interrupts one
/// program, and no other softirq: of two, one is free.
fn one_always_runs(twins: &[Program], preemption: Preemption) -> bool {
    let only_softirqs = |program: &&Program| match program.kind {
        Kind::RawTracepoint => preemption < Preemption::Tracepoints,
        Kind::Fentry | Kind::Fexit => preemption < Preemption::Tracing,
        // All of them have one guard.
        Kind::Kprobe | Kind::Kretprobe | Kind::Tracepoint => false,
    };
    twins.iter().filter(only_softirqs).count() > 1
}

fn select_program<'a>(
    slot: &'a Slot,
    can: &dyn Fn(&Program) -> Result<(), Cannot>,
) -> Result<&'a Program, Cannot> {
    let (mut reasons, mut absent) = (Vec::new(), true);
    for program in slot.any_of {
        match can(program) {
            Ok(()) => return Ok(program),
            Err(cannot) => {
                absent &= matches!(cannot, Cannot::Absent(_));
                let why = cannot.why();
                if !reasons.contains(&why) {
                    reasons.push(why);
                }
            }
        }
    }
    let why = reasons.join("; ");
    Err(if absent { Cannot::Absent(why) } else { Cannot::Refused(why) })
}

#[cfg(test)]
mod tests {
    use super::*;
    const ALL: Preemption = Preemption::Tracepoints;

    fn without(kinds: &[Kind]) -> impl Fn(&Program) -> Result<(), Cannot> {
        move |program| {
            if kinds.contains(&program.kind) {
                return Err(Cannot::Refused(format!("no {:?}", program.kind)));
            }
            Ok(())
        }
    }

    #[test]
    fn the_best_tier_is_taken_and_refuses_nothing() {
        let verdict = select_signal(Signal::Listen, None, ALL, &|_| Ok(()), &without(&[]));
        assert_eq!(verdict.choice.map(|choice| choice.tier), Some(Tier::Fentry));
        assert!(verdict.refusals.is_empty());
    }

    #[test]
    fn a_tier_that_is_silent_gives_way_to_the_next_with_its_reason() {
        let fires = |tier| if tier == Tier::Fentry { Err("silent".to_owned()) } else { Ok(()) };
        let verdict = select_signal(Signal::Accept, None, ALL, &fires, &without(&[]));
        assert_eq!(verdict.choice.map(|choice| choice.tier), Some(Tier::Kprobe));
        assert_eq!(verdict.refusals[0].why, "silent");
    }

    #[test]
    fn where_hooks_are_not_preempted_nothing_stands_by_for_that() {
        let count = |preemption| {
            let can = without(&[Kind::Fentry, Kind::Fexit, Kind::Kprobe]);
            let verdict = select_signal(Signal::Accept, None, preemption, &|_| Ok(()), &can);
            let programs = verdict.choice.map(|choice| choice.programs).unwrap_or_default();
            let stands_by = |program: &&Program| {
                program.name.ends_with("_perf")
                    || program.name.starts_with("sys_") && program.name.ends_with("_twin")
            };
            (programs.len(), programs.iter().filter(stands_by).count())
        };
        assert_eq!(count(ALL), (15, 6));
        assert_eq!(count(Preemption::Tracing), (9, 0));
        assert_eq!(count(Preemption::Nobody), (9, 0));
    }

    #[test]
    fn twins_that_only_softirqs_interrupt_miss_nothing_together() {
        let alone = |preemption| {
            let can = without(&[Kind::Fentry, Kind::Fexit, Kind::Kprobe]);
            let verdict =
                select_signal(Signal::ConnectFailure, None, preemption, &|_| Ok(()), &can);
            verdict.choice.map(|choice| choice.alone).unwrap_or_default()
        };
        let states = "state changes of TCP sockets";
        assert!(alone(Preemption::Tracepoints).contains_key(states));
        for preemption in [Preemption::Nobody, Preemption::Tracing] {
            assert!(!alone(preemption).contains_key(states));
            assert!(alone(preemption).contains_key("ends of connect calls"));
        }
    }

    #[test]
    fn where_nobody_is_preempted_no_hook_is_on_every_change_of_state() {
        let on_states = |preemption| {
            let programs = Signal::ALL.iter().flat_map(|signal| {
                select_signal(*signal, None, preemption, &|_| Ok(()), &without(&[]))
                    .choice
                    .map(|choice| choice.programs)
                    .unwrap_or_default()
            });
            programs.filter(|program| program.name.starts_with("sock_state")).count()
        };
        assert_eq!(on_states(Preemption::Nobody), 0);
        assert_ne!(on_states(Preemption::Tracing), 0);
    }

    #[test]
    fn every_refusal_on_the_way_down_is_kept() {
        let can = without(&[Kind::Fentry, Kind::Fexit, Kind::Kprobe]);
        let verdict = select_signal(Signal::AcceptError, None, ALL, &|_| Ok(()), &can);
        assert_eq!(verdict.choice.map(|choice| choice.tier), Some(Tier::Tracepoint));
        let tiers: Vec<_> = verdict.refusals.iter().map(|refusal| refusal.tier).collect();
        assert_eq!(tiers, [Tier::Fentry, Tier::Kprobe]);
    }

    #[test]
    fn a_tier_that_was_asked_for_has_no_fallback() {
        let verdict = select_signal(
            Signal::Accept,
            Some(Tier::Kprobe),
            ALL,
            &|_| Ok(()),
            &without(&[Kind::Kprobe]),
        );
        assert_eq!(verdict.choice, None);
        assert_eq!(verdict.refusals.len(), 1);
    }

    #[test]
    fn a_missing_extra_is_a_loss_with_its_reason_not_a_refusal() {
        let can = |program: &Program| {
            if program.name == "accept_error_io_fexit" {
                Err(Cannot::Absent("no io_accept".into()))
            } else {
                Ok(())
            }
        };
        let choice = select_signal(Signal::AcceptError, None, ALL, &|_| Ok(()), &can).choice;
        let loses = choice.map(|choice| choice.loses).unwrap_or_default();
        assert!(loses.iter().any(|lost| lost.contains("no io_accept")), "{loses:?}");
    }

    #[test]
    fn what_the_kernel_cannot_do_is_no_loss_and_a_hook_that_it_refuses_is_one() {
        let loses = |cannot: fn(String) -> Cannot| {
            let can = |program: &Program| match program.name {
                "listen_io_fexit" => Err(cannot("no io_listen".into())),
                _ => Ok(()),
            };
            let choice = select_signal(Signal::Listen, None, ALL, &|_| Ok(()), &can).choice;
            choice.map(|choice| choice.loses.len())
        };
        assert_eq!((loses(Cannot::Absent), loses(Cannot::Refused)), (Some(0), Some(1)));
    }

    #[test]
    fn a_twin_of_another_kind_is_preferred_and_attached_once() {
        let named = |can: &dyn Fn(&Program) -> Result<(), Cannot>| -> Vec<&str> {
            let verdict = select_signal(Signal::Accept, None, ALL, &|_| Ok(()), can);
            let programs = verdict.choice.map(|choice| choice.programs).unwrap_or_default();
            programs
                .iter()
                .map(|program| program.name)
                .filter(|name| name.starts_with("accept") && name.ends_with("twin"))
                .collect()
        };
        assert_eq!(named(&without(&[])), ["accept_graft_kprobe_twin"]);
        assert_eq!(
            named(&without(&[Kind::Kprobe])),
            ["accept_tcp_fexit_2_twin", "accept_unix_fexit_3_twin"]
        );
    }
}
