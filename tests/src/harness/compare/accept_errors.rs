//! Failed accepts: process, name, errno and count; an empty queue is no failure.

use super::rows::{Fields, match_rows};
use crate::harness::report::Report;
use crate::scenario::record::Seen;

/// Exactly the errors that the scenario saw, so no `EAGAIN` either.
pub fn problems(seen: &Seen, report: &Report) -> Vec<String> {
    let row = |pid: u32, comm: &str, errno: &str, count: u64| -> Fields {
        vec![
            ("pid", pid.to_string()),
            ("comm", comm.to_owned()),
            ("errno", errno.to_owned()),
            ("count", count.to_string()),
        ]
    };
    let expected: Vec<Fields> =
        seen.accept_errors.iter().map(|e| row(e.pid, &e.comm, &e.errno, e.count)).collect();
    let mut found = Vec::new();
    for process in &report.processes {
        let (pid, comm) = (process.pid.unwrap_or(0), process.comm.as_deref().unwrap_or("unknown"));
        found.extend(process.accept_errors.iter().map(|e| row(pid, comm, &e.errno, e.count)));
    }
    match_rows("accept error", &expected, &found)
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn an_empty_queue_listed_as_an_error_is_a_problem() -> Result<()> {
        let mut json = sample::good();
        assert_eq!(problems(&sample::seen(), &sample::report(&json)?), Vec::<String>::new());
        json["processes"][0]["accept_errors"] = serde_json::json!([
            {"errno": "EMFILE", "count": 4}, {"errno": "EAGAIN", "count": 5}]);
        let problems = problems(&sample::seen(), &sample::report(&json)?);
        assert_eq!(problems, ["accept error: nobody expected pid=10 comm=st errno=EAGAIN count=5"]);
        Ok(())
    }
}
