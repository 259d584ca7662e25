//! `explain`: what an errno, an incident or a rule means; nothing is traced or read.

use std::{io::stdout, process::ExitCode};

use clap::Args;
use serde_json::Value;

use super::{
    failure::{Failure, SUCCESS},
    output::print,
};
use crate::{
    demo::INCIDENTS,
    diagnose::explain::{Explanation, Kind, Topic, explain, nearest, topics},
    render::explain::{explanation_json, render_explanation, render_topics, topics_json},
};

/// Explain an errno, an incident or a rule: what the kernel does, and how to tell its causes apart
///
/// Needs no privileges. Without a topic it lists all of them.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// An errno by name or number, an incident (listen-overflow), a rule, or a drop reason
    topic: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let text = match &self.topic {
            None => self.list(&topics().collect::<Vec<_>>()),
            Some(name) => self.one(&explain(name).ok_or_else(|| unknown(name))?),
        };
        print(stdout(), "stdout", &text)?;
        Ok(SUCCESS)
    }

    fn list(&self, topics: &[Topic]) -> String {
        if self.json { pretty(&topics_json(topics)) } else { render_topics(topics) }
    }

    fn one(&self, told: &Explanation) -> String {
        let demos = demos(told);
        if self.json {
            pretty(&explanation_json(told, &demos))
        } else {
            render_explanation(told, &demos)
        }
    }
}

/// The demos of a topic: of its own name, or explained by one of its rules.
fn demos(told: &Explanation) -> Vec<&'static str> {
    let name = told.topic.name;
    let shows = |rule: &str| match told.topic.kind {
        Kind::Rule => rule == name,
        Kind::Errno | Kind::Incident => told.causes.iter().any(|cause| cause.name == rule),
    };
    let of_it = INCIDENTS.iter().filter(|it| it.topic == Some(name) || it.rule.is_some_and(shows));
    of_it.map(|incident| incident.name).collect()
}

fn unknown(name: &str) -> Failure {
    let near = nearest(name);
    let guess = match near.as_slice() {
        [] => String::new(),
        near => format!("; near it are {}", near.join(", ")),
    };
    let name = crate::render::escape::escape(name.as_bytes());
    Failure::Usage(format!(
        "there is no topic '{name}'{guess}; socktrace explain lists all of them"
    ))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{LISTENER_RULES, RULES};

    #[test]
    fn every_demo_belongs_to_a_topic_that_exists() {
        for incident in INCIDENTS {
            let topics: Vec<&str> = [incident.rule, incident.topic].into_iter().flatten().collect();
            assert!(!topics.is_empty(), "{} belongs to nothing", incident.name);
            for topic in topics {
                let told = explain(topic).unwrap_or_else(|| unreachable!("{topic}"));
                assert!(demos(&told).contains(&incident.name), "{topic}");
            }
        }
    }

    /// Rules that no demo is named after, and why.
    const NOT_SHOWN: [(&str, &str); 13] = [
        ("accept-queue-full", "the demo backlog, whose words are of the tier"),
        ("accept-stall", "takes an owner that nobody can look at"),
        ("host-out-of-files", "takes all files that the host may open"),
        ("owner-held-up", "the second cause of the demo stopped-unix-server"),
        ("owner-never-accepts", "the second cause of the demo inherited-unix-listener"),
        ("owner-not-activated", "takes systemd"),
        ("security-module", "takes a security module that keeps somebody out"),
        ("slow-accepts", "the demo stall, which says so if no look saw it wait"),
        ("tcp-no-answer", "takes another host"),
        ("tcp-refused-by-peer", "takes another host"),
        ("tcp-refused-though-listening", "takes a server that comes a moment too late"),
        ("thrown-away-otherwise", "takes a kernel that is short of memory"),
        ("unix-clients-turned-away", "the demo unix-backlog, where the clients are not told of"),
    ];

    #[test]
    fn every_rule_about_connects_and_listeners_has_a_demo_or_a_reason_to_have_none() {
        let rules = RULES.iter().map(|rule| rule.name);
        let rules = rules.chain(LISTENER_RULES.iter().map(|rule| rule.name));
        for rule in rules {
            let shown = INCIDENTS.iter().any(|incident| incident.rule == Some(rule));
            let excused = NOT_SHOWN.iter().any(|(name, _)| *name == rule);
            assert!(shown != excused, "{rule}: {shown}");
        }
        for (name, _) in NOT_SHOWN {
            assert!(explain(name).is_some(), "{name} is no rule");
        }
    }
}
