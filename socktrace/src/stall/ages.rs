//! How long the oldest connection of each listener has waited, after looking for a while.

use std::collections::HashMap;

use super::{
    glance::Known,
    watch::{Stalling, Watch},
};
use crate::{
    event::{Queued, Sighting},
    transport::Progress,
};

/// What all looks so far showed.
pub struct Ages(Watch);

impl Default for Ages {
    fn default() -> Self {
        // Whatever waits at all.
        Self(Watch::new(1))
    }
}

impl Ages {
    /// Takes in one look.
    pub fn look(
        &mut self,
        now_ns: u64,
        sightings: &HashMap<u64, Sighting>,
        queued: &[Queued],
        accepted_before: &HashMap<u64, u64>,
        progress: &dyn Fn(u64) -> Progress,
    ) {
        let glances = Known::assign(queued, &[], sightings, now_ns).glances(
            sightings,
            accepted_before,
            |_| false,
            progress,
        );
        // What changed does not matter, only how it is in the end.
        let _ = self.0.look(now_ns, &glances);
    }

    /// The oldest connection of each listener that has any.
    pub fn oldest(&self) -> HashMap<u64, Stalling> {
        self.0.stalling().collect()
    }
}
