//! What a report says of one staged incident.

use socktrace_tests::harness::report::{Finding, Report};
use socktrace_tests::harness::run::Run;

/// What was found of an incident.
pub(super) struct Told {
    /// Its name.
    pub(super) name: String,
    /// The rule that explains it; none where it was not looked into.
    pub(super) rule: Option<String>,
    /// Every finding about how the process failed; what is said of its listeners is another matter.
    pub(super) findings: Vec<Finding>,
}

impl Told {
    /// What explains it.
    pub(super) fn first(&self) -> Option<&Finding> {
        self.findings.iter().find(|it| Some(&it.rule) == self.rule.as_ref())
    }

    /// Everything that is said of it.
    pub(super) fn words(&self) -> String {
        let Some(first) = self.first() else { return "nothing was found".to_owned() };
        format!("{}; {}. Next: {}.", first.fact, first.consequence, first.fix)
    }
}

/// Of every incident that the scenario saw.
pub(super) fn of(run: &Run) -> Vec<Told> {
    let report = &run.report;
    let connects = run.seen.failures.iter().map(|it| {
        let rows = report.processes.iter().filter(|row| row.pid == Some(it.pid));
        let failed = rows.flat_map(|row| &row.connect_failures).find(|row| row.errno == it.errno);
        told(report, &it.name, it.pid, failed.and_then(|row| row.rule.clone()))
    });
    let accepts = run.seen.accept_errors.iter().map(|it| {
        let rows = report.processes.iter().filter(|row| row.pid == Some(it.pid));
        let failed = rows.flat_map(|row| &row.accept_errors).find(|row| row.errno == it.errno);
        told(report, &it.name, it.pid, failed.and_then(|row| row.rule.clone()))
    });
    connects.chain(accepts).collect()
}

fn told(report: &Report, name: &str, pid: u32, rule: Option<String>) -> Told {
    let findings = report.findings.iter().filter(|it| it.listener.is_none());
    let findings = findings.filter(|it| it.pids.contains(&pid)).cloned().collect();
    Told { name: name.to_owned(), rule, findings }
}
