//! Findings: as sentences, as a line of `watch`, as JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    cells::{UNKNOWN, endpoint, family},
    event_line::Columns,
    json::time,
    phrases,
};
use crate::{
    aggregate::FindingRow,
    diagnose::{cause, errno_name},
    event::{Certainty, Diagnosis, Endpoint, Finding, Incident, Phrase},
    transport::Clock,
};

/// Why a connect failed: what was found out, or else what its errno alone tells.
pub(super) struct Why {
    pub(super) cause: Option<String>,
    pub(super) fix: Option<String>,
    pub(super) certainty: Certainty,
    pub(super) rule: Option<String>,
}

/// The explanation of a failure.
pub(super) fn why(findings: Option<&[Finding]>, target: &Endpoint, errno: u32) -> Why {
    if let Some(first) = findings.and_then(<[Finding]>::first) {
        let said = |phrase: &Phrase| (!phrase.is_empty()).then(|| phrases::text(phrase));
        return Why {
            cause: said(&clauses(first)),
            fix: said(&first.fix),
            certainty: first.certainty,
            rule: Some(first.rule.clone().into_owned()),
        };
    }
    let known = cause(target.address.as_ref().map_or("", |address| address.family()), errno);
    Why {
        cause: known.map(|known| known.cause.to_owned()),
        fix: known.map(|known| known.fix.to_owned()),
        certainty: known.map_or(Certainty::Unknown, |known| known.certainty),
        rule: None,
    }
}

/// Fact and consequence in one.
fn clauses(finding: &Finding) -> Phrase {
    if finding.consequence.is_empty() {
        return finding.fact.clone();
    }
    finding.fact.clone().then("; ").then(finding.consequence.clone())
}

/// `: CAUSE. Next: FIX. (inferred)`, to end a sentence with; `also` are findings behind the first.
pub(super) fn because(findings: Option<&[Finding]>, target: &Endpoint, errno: u32) -> String {
    let why = why(findings, target, errno);
    let Some(cause) = why.cause else { return ". Its cause is unknown.".to_owned() };
    let fix = why.fix.map_or(String::new(), |fix| format!(" Next: {fix}."));
    let also = findings.unwrap_or_default().iter().skip(1);
    let also = also.fold(String::new(), |also, more| also + " Also: " + &sentence(more));
    format!(": {cause}.{fix} ({}){also}", why.certainty.name())
}

/// `CAUSE. Next: FIX. (inferred)`
pub(super) fn sentence(finding: &Finding) -> String {
    let fix = if finding.fix.is_empty() {
        String::new()
    } else {
        format!(" Next: {}.", phrases::text(&finding.fix))
    };
    format!("{}.{fix} ({})", phrases::text(&clauses(finding)), finding.certainty.name())
}

/// One line of `watch` for each finding, in the columns of [`super::text::event_header`].
pub(super) fn lines(diagnosis: &Diagnosis, clock: &Clock) -> Vec<String> {
    let (uid, family, result, target) = match &diagnosis.of {
        Incident::ConnectFailure(class) => {
            let target = &class.target;
            (Some(class.uid), family(target), errno_name(class.errno), endpoint(target))
        }
        Incident::AcceptError { errno, .. } => (None, UNKNOWN, errno_name(*errno), String::new()),
    };
    let columns = Columns {
        time: clock.wall(diagnosis.time_ns),
        what: "finding",
        pid: None,
        comm: None,
        uid,
        family,
        result: &result,
        wait: &UNKNOWN,
    };
    let line = |finding: &Finding| format!("{columns}{target}: {}", sentence(finding));
    diagnosis.findings.iter().map(line).collect()
}

/// One object for each finding, as an event.
pub(super) fn events(diagnosis: &Diagnosis, clock: &Clock) -> Vec<Value> {
    let event = |finding: &Finding| {
        let mut object = Map::new();
        object.insert("schema_version".into(), json!(super::json::SCHEMA_VERSION));
        object.insert("time".into(), json!(time(clock.wall(diagnosis.time_ns))));
        object.insert("monotonic_ns".into(), json!(diagnosis.time_ns));
        object.insert("signal".into(), json!("finding"));
        if let Incident::ConnectFailure(class) = &diagnosis.of {
            object.insert("uid".into(), json!(class.uid));
            super::json::put_endpoint(&mut object, "target", &class.target);
            object.insert("errno".into(), json!(errno_name(class.errno)));
        }
        if let Incident::AcceptError { task, listener, errno } = &diagnosis.of {
            object.insert("pid".into(), json!(task.tgid));
            object.insert("inode".into(), json!((*listener != 0).then_some(listener)));
            object.insert("errno".into(), json!(errno_name(*errno)));
        }
        object.extend(fields(finding));
        Value::Object(object)
    };
    diagnosis.findings.iter().map(event).collect()
}

/// As it stands in the report.
pub(super) fn row(row: &FindingRow, seconds: f64) -> Value {
    let mut object = fields(&row.finding);
    object.insert("count".into(), json!(row.count));
    let rate = (seconds > 0.0).then(|| row.count as f64 / seconds);
    object.insert("per_second".into(), json!(rate));
    object.insert("listener".into(), json!(row.listener));
    object.insert("pids".into(), json!(few(&row.pids)));
    object.insert("processes".into(), json!(row.pids.len()));
    Value::Object(object)
}

/// Pids beyond these are counted only.
fn few(pids: &BTreeSet<u32>) -> Vec<u32> {
    const SHOWN: usize = 32;
    pids.iter().copied().take(SHOWN).collect()
}

/// The finding alone.
pub(super) fn fields(finding: &Finding) -> Map<String, Value> {
    let evidence: Vec<String> = finding.evidence.iter().map(phrases::text).collect();
    let mut object = Map::new();
    object.insert("rule".into(), json!(finding.rule));
    object.insert("severity".into(), json!(finding.severity.name()));
    object.insert("subject".into(), json!(phrases::text(&finding.subject)));
    object.insert("fact".into(), json!(phrases::text(&finding.fact)));
    object.insert("consequence".into(), json!(phrases::text(&finding.consequence)));
    object.insert("fix".into(), json!(phrases::text(&finding.fix)));
    object.insert("certainty".into(), json!(finding.certainty.name()));
    object.insert("evidence".into(), json!(evidence));
    object
}
