//! What became of a condition (`--fail-on`), as one sentence.

use super::{
    cells::{bytes, endpoint, few, number},
    escape::escape,
};
use crate::{
    aggregate::condition::{Condition, Met, Unit, Who, Whose},
    diagnose::errno_name,
};

/// What was measured, the limit, and who has the most of it.
pub fn met(met: &Met) -> String {
    let most = met.most.as_ref().map(|(whose, amount)| {
        let whose = words(whose);
        let is_all = *amount == met.measured;
        let amount =
            if is_all { String::new() } else { format!(", {}", quantity(met.unit, *amount)) };
        if whose.is_empty() { String::new() } else { format!("; the most is {whose}{amount}") }
    });
    format!(
        "{} is met: it was {}{}.",
        escape(met.condition.as_bytes()),
        quantity(met.unit, met.measured),
        most.unwrap_or_default()
    )
}

/// Why it cannot be told.
pub fn unknown(condition: &Condition, why: &str) -> String {
    format!("whether {} is met is unknown: {why}.", escape(condition.text().as_bytes()))
}

/// A number with its unit.
fn quantity(unit: Unit, number: u64) -> String {
    match unit {
        Unit::Count => number.to_string(),
        Unit::Duration => format!("{:.3} ms", number as f64 / 1e6),
        Unit::Percent => format!("{}.{:02} %", number / 100, number % 100),
    }
}

/// `web(12) to /run/x.sock (EACCES)`; empty where nothing is known.
fn words(whose: &Whose) -> String {
    let who = |who: &Who| format!("{}({})", bytes(who.comm.as_deref()), number(who.pid));
    let mut words = Vec::new();
    if !whose.processes.is_empty() {
        words.push(few(whose.processes.iter().map(who), whose.processes.len()));
    }
    words.extend(whose.target.as_ref().map(|target| format!("to {}", endpoint(target))));
    words.extend(whose.listener.as_ref().map(|local| format!("on {}", endpoint(local))));
    words.extend(whose.rule.as_ref().map(|rule| escape(rule.as_bytes()).into_owned()));
    let why = [
        whose.errno.map(errno_name),
        whose.reason.map(|reason| reason.name().to_owned()),
        whose.severity.map(|severity| severity.name().to_owned()),
    ];
    words.extend(why.into_iter().flatten().map(|why| format!("({why})")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::condition::Op,
        event::{Address, Endpoint},
    };

    fn told(unit: Unit, measured: u64, most: Option<(Whose, u64)>) -> String {
        let condition = "accept_wait_p99>50ms".to_owned();
        met(&Met { condition, unit, measured, op: Op::Above, limit: 50_000_000, most })
    }

    fn web(pid: u32) -> Who {
        Who { pid: Some(pid), comm: Some(b"we\x1bb".to_vec()) }
    }

    #[test]
    fn a_met_condition_is_told_with_its_number_and_with_who_has_the_most_of_it() {
        let target = Endpoint { address: Some(Address::Unix(b"/run/x\n".to_vec())), kind: None };
        let whose = Whose {
            processes: vec![web(12)],
            target: Some(target),
            errno: Some(13),
            ..Whose::default()
        };
        assert_eq!(
            told(Unit::Count, 12, Some((whose, 10))),
            "accept_wait_p99>50ms is met: it was 12; the most is we\\x1bb(12) to /run/x\\n (EACCES), \
             10."
        );
    }

    #[test]
    fn what_has_all_of_it_is_told_without_the_number_again() {
        let local = Endpoint { address: "0.0.0.0:80".parse().ok().map(Address::Inet), kind: None };
        let whose = Whose {
            processes: vec![web(1), web(2), web(3), web(4)],
            listener: Some(local),
            ..Whose::default()
        };
        assert_eq!(
            told(Unit::Duration, 71_303_000, Some((whose, 71_303_000))),
            "accept_wait_p99>50ms is met: it was 71.303 ms; the most is we\\x1bb(1), we\\x1bb(2), \
             we\\x1bb(3), and 1 more on 0.0.0.0:80."
        );
        let unowned = told(Unit::Percent, 8005, None);
        assert_eq!(unowned, "accept_wait_p99>50ms is met: it was 80.05 %.");
    }

    #[test]
    fn what_is_unknown_is_told_with_the_reason() {
        let condition = Condition::parse("accepts < 1").expect("a condition");
        assert_eq!(
            unknown(&condition, "accept was not traced"),
            "whether accepts < 1 is met is unknown: accept was not traced."
        );
    }
}
