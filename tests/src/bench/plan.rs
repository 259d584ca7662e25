//! What is measured, as `cargo xtask bench` writes it down: a JSON file.

use serde::Deserialize;

use super::operation::Operation;

/// A whole run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Measured rounds of each operation, before, during and after each tracer. One more warms up.
    pub rounds: u32,
    /// How often each tracer is started and ended.
    pub pairs: u32,
    /// What the worker does.
    pub work: Vec<Work>,
    /// The tracers, in their order.
    pub subjects: Vec<Subject>,
    /// Where bpftool is, if what each eBPF program costs is to be told as well.
    pub bpftool: Option<String>,
}

/// One operation, and how often a round does it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// What.
    pub operation: Operation,
    /// How often.
    pub count: u64,
}

/// A tracer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What tables call it.
    pub name: String,
    /// Program and arguments; the word `{worker}` stands for the worker's pid.
    pub command: Vec<String>,
    /// It traces once it has printed this; if not given, once it has been asleep for a while.
    pub ready: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_called_as_in_tables() -> Result<(), serde_json::Error> {
        let text = r#"{"rounds": 3, "pairs": 1, "work": [{"operation": "tcp-overflow", "count": 9}],
            "subjects": [{"name": "strace", "command": ["strace", "-p", "{worker}"], "ready": null}],
            "bpftool": null}"#;
        let plan: Plan = serde_json::from_str(text)?;
        assert_eq!(plan.work[0].operation, Operation::TcpOverflow);
        assert_eq!(plan.subjects[0].ready, None);
        Ok(())
    }
}
