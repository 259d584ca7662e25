//! A directory by which a test and a scenario wait for each other: files `ready`, `go`, `done`,
//! `over`.
//!
//! The test side is here, too, so that both sides agree on the names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::clock::wait_until;

/// The directory.
#[derive(Clone, Debug)]
pub struct Gate(PathBuf);

impl Gate {
    /// A gate in an existing directory.
    pub fn at(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Scenario: says that it is there, with its pid, and waits for leave.
    ///
    /// # Errors
    /// When leave does not come.
    pub fn arrive(&self) -> Result<()> {
        self.put("ready", &std::process::id().to_string())?;
        wait_until("the gate to open", || Ok(self.0.join("go").exists()))
    }

    /// Scenario: says that everything is done.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn leave(&self) -> Result<()> {
        self.put("done", "")
    }

    /// Scenario: says that everything is done, and stays as it is until the test needs it no more.
    ///
    /// # Errors
    /// When the test does not come to its end.
    pub fn leave_and_stay(&self) -> Result<()> {
        self.leave()?;
        wait_until("the test to be over", || Ok(self.0.join("over").exists()))
    }

    /// Test: needs the scenario no more.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn release(&self) -> Result<()> {
        self.put("over", "")
    }

    /// Test: waits for the scenario and returns its pid.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_ready(&self) -> Result<u32> {
        let ready = self.0.join("ready");
        wait_until("the scenario at its gate", || Ok(ready.exists()))?;
        let pid = std::fs::read_to_string(&ready).context("ready")?;
        pid.parse().context("a pid")
    }

    /// Scenario: whether the test needs it no more.
    pub fn is_released(&self) -> bool {
        self.0.join("over").exists()
    }

    /// Scenario: stays until the test has no need of it any more.
    ///
    /// # Errors
    /// When that does not come.
    pub fn stay(&self) -> Result<()> {
        wait_until("the test to be done", || Ok(self.0.join("dismissed").exists()))
    }

    /// Test: has no need of the scenario any more.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn dismiss(&self) -> Result<()> {
        self.put("dismissed", "")
    }

    /// Test: gives leave.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn open(&self) -> Result<()> {
        self.put("go", "")
    }

    /// Test: waits until the scenario is done.
    ///
    /// # Errors
    /// When it takes longer than a minute.
    pub fn wait_done(&self) -> Result<()> {
        wait_until("the scenario to be done", || Ok(self.0.join("done").exists()))
    }

    /// Writes a file in one step: whoever sees it sees all of it.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let whole = self.0.join(format!("{name}.new"));
        std::fs::write(&whole, text).with_context(|| whole.display().to_string())?;
        std::fs::rename(&whole, self.0.join(name)).with_context(|| name.to_owned())
    }
}
